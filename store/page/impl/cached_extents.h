#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "store/page/eviction.h"
#include "store/page/geometry.h"
#include "store/page/object_key.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// A cached object's files on disk: what of it is there.
struct CachedFile {
  ObjectKey key;
  Incarnation incarnation;
  uint64_t size_bytes = 0;
  int64_t used_ns = 0;  ///< when it was last opened or read from disk; nanoseconds since 1970
  bool pinned = false;  ///< stays
  absl::flat_hash_map<uint32_t, uint32_t> slots;   ///< of the extents that have pages on disk
  absl::flat_hash_map<uint32_t, uint32_t> blocks;  ///< how many of them each map block tells of
};

/// Which extents of cached objects the disk holds, how much they take, and which goes next.
///
/// Pure: no I/O, no clock. Not thread-safe; the owner guards it. About 60 bytes an extent on disk;
/// room for more costs address space only.
class CachedExtents {
 public:
  /// One extent that is to go. It is out of the tables already.
  struct Victim {
    CachedFile* file = nullptr;
    uint32_t extent = 0;
    uint32_t pages = 0;  ///< what it was counted as
  };

  /// At most `slots` extents at a time, judged by the policy called `eviction`; see eviction.h.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CachedExtents>> create(
      std::string_view eviction, size_t slots);

  [[nodiscard]] CachedFile* find(const ObjectKey& key);
  /// A file that find() does not know. The reference is good until it is removed.
  CachedFile& add(const ObjectKey& key, const Incarnation& incarnation, uint64_t size_bytes);
  /// Forgets a file of which nothing is on disk.
  void remove(const CachedFile& file);

  /// `pages` of an extent are on disk; more may have been counted before. False when there is no
  /// slot for a new extent.
  [[nodiscard]] bool count_pages(CachedFile& file, uint32_t extent, uint32_t pages);
  /// Pinned files' extents are passed over by evict().
  void pin(CachedFile& file, bool pinned);
  /// The extent was read from disk.
  void use(const CachedFile& file, uint32_t extent);
  /// Takes the next extent to go. Nothing when none is left, or all are pinned.
  [[nodiscard]] std::optional<Victim> evict();
  /// Takes this one, whatever the policy thinks of it.
  [[nodiscard]] std::optional<Victim> take(CachedFile& file, uint32_t extent);
  /// A victim that could not go: it is back, as one in use.
  void restore(const Victim& victim);

  [[nodiscard]] uint64_t extents() const { return extents_; }
  /// What they take on disk: their pages, the page map blocks that tell of them, and a block for
  /// each file's header.
  [[nodiscard]] uint64_t bytes() const { return (pages_ + blocks_) << kPageShift; }
  [[nodiscard]] size_t free_slots() const { return slots_.size() - extents_; }

  /// Calls visit(file) for every file.
  template <typename Visit>
  void for_each_file(const Visit& visit) {
    for (auto& [key, file] : files_) visit(*file);
  }

 private:
  struct Slot {
    CachedFile* file;
    uint32_t extent;
    uint32_t pages;
  };

  explicit CachedExtents(size_t slots) : uses_(slots), slots_(slots) {}
  [[nodiscard]] std::optional<uint32_t> free_slot();
  void enter(const Slot& what, uint32_t slot);
  Victim give_up(uint32_t slot);

  UseCounters uses_;
  std::unique_ptr<EvictionPolicy> policy_;
  ZeroVector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint32_t never_used_ = 0;  ///< slots from here on are free and in no list
  uint64_t extents_ = 0;
  uint64_t pages_ = 0;
  uint64_t blocks_ = 0;
  absl::flat_hash_map<ObjectKey, std::unique_ptr<CachedFile>> files_;
};

}  // namespace blobcache::page
