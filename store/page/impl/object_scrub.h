#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "store/page/content_hash.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/object_table.h"
#include "store/page/impl/store_core.h"
#include "store/page/page_map.h"
#include "store/page/scrub.h"

namespace blobcache::page {

class MapRepairer;

/// What a scrub needs of the store, by reference; all of it outlives the scrub.
struct ScrubParts {
  StoreCore& core;
  ObjectTable& objects;
  MapRepairer& repairer;
  const ContentHashFactory& hash;
};

/// Reads one object's files from the disk, past the memory tier, and compares everything that can
/// be compared: the header and blocks of its page map, each page's checksum, and, when all of those
/// are right, the hash of the whole with its key.
///
/// It opens the files for itself, and has one megabyte and one block of the map in memory, so that
/// it takes nothing from readers but the disk's time; it holds one read at a time, and holds back
/// for a moment while fetches of readers are under way. Only damage touches what readers share: a
/// damaged map is made again as for them, and damaged pages are dropped from the extents of an
/// object in use, and counted.
///
/// One thread at a time, none of the store's.
class ObjectScrub {
 public:
  ObjectScrub(const ScrubParts& parts, const ObjectSpec& spec, ScrubControl& control);

  /// As PageStore::scrub.
  [[nodiscard]] absl::StatusOr<ScrubResult> run();

 private:
  /// A stretch of the object, as much as the buffer holds.
  struct Chunk {
    uint64_t first_page = 0;
    uint32_t pages = 0;
  };
  enum class PageState : uint8_t { kZero, kData, kAbsent, kBad };

  [[nodiscard]] absl::StatusOr<base::UniqueFd> open_file(const std::filesystem::path& path);
  /// False: damaged as a whole, with the reason noted.
  [[nodiscard]] absl::StatusOr<bool> open_data();
  [[nodiscard]] absl::Status open_map();
  /// Looks at the header of a map file; a wrong one is repaired.
  [[nodiscard]] absl::Status check_header();
  /// Loads block `number` into block_, repairing the map once. False when it cannot be had.
  [[nodiscard]] absl::StatusOr<bool> load_block(uint64_t number);
  [[nodiscard]] absl::StatusOr<MapBlock> read_block(uint64_t number);
  /// Has the map made again, as for a reader. False: it is lost, with the reason noted.
  [[nodiscard]] absl::StatusOr<bool> repair_map(std::string_view why);

  [[nodiscard]] absl::Status check_block(uint64_t number);
  [[nodiscard]] absl::Status check_chunk(const Chunk& chunk);
  void sort_pages(const Chunk& chunk);
  /// Reads and compares pages [first, first + count) of the chunk, all kData.
  [[nodiscard]] absl::Status check_run(const Chunk& chunk, uint32_t first, uint32_t count);
  void compare_run(const Chunk& chunk, uint32_t first, uint32_t count);
  [[nodiscard]] bool matches(const Chunk& chunk, uint32_t page) const;
  /// Notes what of the chunk is kBad or kAbsent.
  void note_damage(const Chunk& chunk);
  /// As a read does with a page that does not match. One that cannot be read now may be later.
  void drop_page(uint64_t page);
  void note_verified(const Chunk& chunk);
  /// Compares the hash of all that was read, if all of it was right.
  void check_hash();
  void note_whole(std::string_view why);

  /// Reads `bytes` at the start of page `first` of the buffer; 0 or a negative errno value.
  [[nodiscard]] int read_pages(const Chunk& chunk, uint32_t first, uint32_t count);
  /// Reads of the map file; 0 or a negative errno value.
  [[nodiscard]] int read_map(absl::Span<std::byte> into, uint64_t offset);
  [[nodiscard]] int read_disk(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed);
  /// Waits for the rate and for readers; CANCELLED when the scrub is to end, UNAVAILABLE when the
  /// disk is out of use.
  [[nodiscard]] absl::Status before_read(uint64_t bytes);
  [[nodiscard]] uint64_t bytes_of(uint64_t first_page, uint64_t pages) const;
  [[nodiscard]] std::byte* memory_of(uint32_t page) const;

  ScrubParts parts_;
  ObjectSpec spec_;
  ScrubControl& control_;
  const bool has_map_file_;
  std::unique_ptr<ContentHash> hash_;  ///< none once it can say nothing any more
  base::UniqueFd data_;
  base::UniqueFd map_;
  uint64_t file_bytes_ = 0;
  int64_t written_ns_ = 0;
  bool repair_tried_ = false;
  uint32_t failures_in_a_row_ = 0;
  const AlignedMemory buffer_;
  MapBlock block_;
  std::vector<PageState> states_;  ///< of the chunk's pages
  ScrubResult result_;
};

}  // namespace blobcache::page
