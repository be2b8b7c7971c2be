#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/content_hash.h"
#include "store/page/eviction.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/page/object_writer.h"
#include "store/page/stats.h"

namespace blobcache::page {

enum class DirectIo : uint8_t { kAuto, kOn, kOff };

/// One step of the disk tier's I/O, before it is taken. Value type.
struct DiskStep {
  enum class Kind : uint8_t { kRead, kWrite, kSync };
  Kind kind = Kind::kRead;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// What a test makes of a step: 0 to take it, a negative errno value to fail it in its place, or
/// for a read or write how many bytes of it to move at first. Called by any thread.
using DiskFault = std::function<int(const DiskStep& step)>;

struct PageStoreOptions {
  std::filesystem::path path;                 ///< must exist; objects/ and tmp/ are made beneath it
  uint64_t memory_bytes = uint64_t{1} << 30;  ///< L0 budget; at least kMinMemory
  uint64_t disk_bytes = uint64_t{50} << 30;   ///< L1 budget
  uint64_t disk_reserve_bytes = 0;            ///< of the file system, never used
  DirectIo direct_io = DirectIo::kAuto;
  std::string eviction{kDefaultEvictionPolicy};  ///< see eviction.h for the names
  /// What keys are made of; with it a damaged page map is made again from its object's file.
  ContentHashFactory content_hash;
  DiskFault disk_fault;  ///< for tests of what follows from failing disks; absent in earnest
};

/// Decides which cached objects go when the disk tier needs room. Implemented by whoever knows the
/// names (store/tree). Called from any thread, with no lock of the store held.
class DiskReclaimer {
 public:
  virtual ~DiskReclaimer() = default;
  /// Gives up cached objects (through PageStore::remove) until about `bytes` are free or none is
  /// left. Returns the bytes given up.
  virtual uint64_t reclaim(uint64_t bytes) = 0;
};

/// The page store: RAM frames over disk files over sources, for objects that it knows by key and
/// incarnation. It knows no names; store/tree does.
///
/// Thread-safe. Destroying it ends its threads; all ObjectRefs, PinnedRanges and ObjectWriters must
/// be gone.
class PageStore {
 public:
  static constexpr uint64_t kMinMemory = uint64_t{8} << 20;

  /// Opens the disk tier under options.path and removes unfinished files. INVALID_ARGUMENT for
  /// options out of range, FAILED_PRECONDITION when direct I/O is demanded and not to be had, else
  /// the disk's error.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<PageStore>> open(
      const PageStoreOptions& options);

  virtual ~PageStore() = default;

  /// The object with this key and incarnation: the one in use already, or a new one made from
  /// `spec`. Touches no disk; a missing or damaged file shows at the first read.
  [[nodiscard]] virtual ObjectRef attach(const ObjectSpec& spec) = 0;

  /// Begins a new object. `size_hint`, bytes of data without holes (0: unknown), lets a put that
  /// cannot fit fail before it moves a byte: RESOURCE_EXHAUSTED.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<ObjectWriter>> create(
      Retention retention, uint64_t size_hint) = 0;

  /// Makes sealed objects durable. One object: its files and their directory are synced. Several:
  /// one sync of the file system for all of them, whose price is that what other programs have
  /// dirty there is written too. After an error none may be relied on. Blocks.
  [[nodiscard]] virtual absl::Status sync(absl::Span<ObjectWriter* const> sealed) = 0;

  /// Removes the object's files and gives its `disk_bytes` back to the budget. Readers who hold it
  /// go on reading (the open file lives until the last reference). A file that is gone already is
  /// no error.
  virtual absl::Status remove(const ObjectKey& key, const Incarnation& incarnation,
                              Retention retention, uint64_t disk_bytes) = 0;

  /// Changes what is stored with the object's file (see ObjectWriter::seal). Not synced: a power
  /// cut may bring the former text back. NOT_FOUND when the file is gone, else the disk's error; no
  /// error where the file system has no extended attributes.
  virtual absl::Status describe(const ObjectKey& key, const Incarnation& incarnation,
                                const std::string& description) = 0;

  /// Moves `disk_bytes` between kept and cached in the accounts of the budget.
  virtual void change_retention(Retention from, Retention to, uint64_t disk_bytes) = 0;

  /// Tells the accounts what the disk holds from earlier runs; once, at start, before any read or
  /// put.
  virtual void restore_usage(uint64_t kept_bytes, uint64_t cached_bytes) = 0;

  /// Removes files under objects/ that `known` disowns: what a crash left between rename and
  /// catalog commit. Returns how many. Files of puts that are under way are safe. Slow; run it in
  /// the background.
  virtual absl::StatusOr<uint64_t> remove_orphans(
      const std::function<bool(const ObjectKey&, const Incarnation&)>& known) = 0;

  /// Drops an object's clean frames from L0; pinned ones stay. Returns the pages dropped.
  virtual uint64_t evict_memory(Object& object) = 0;

  /// At most one; `reclaimer` must live until it is unset (nullptr) or the store ends.
  virtual void set_reclaimer(DiskReclaimer* reclaimer) = 0;

  [[nodiscard]] virtual Stats stats() const = 0;
};

}  // namespace blobcache::page
