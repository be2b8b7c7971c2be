#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/lent_file.h"
#include "store/page/object_key.h"
#include "store/page/pending_read.h"
#include "store/page/pinned_range.h"
#include "store/page/source.h"

namespace blobcache::page {

class PageStore;

/// Whether an object may be evicted. Kept: given to us to hold, must not be lost. Cached: can be
/// had again.
enum class Retention : uint8_t { kCached, kKept };

/// What the page store must be told to open an object. Value type.
struct ObjectSpec {
  ObjectKey key;
  Incarnation incarnation;
  uint64_t size_bytes = 0;
  Retention retention = Retention::kCached;
  /// The page map of an object of at most kInlineMapMaxObject bytes, which has no map file; see
  /// page_map.h.
  std::string inline_map;
  /// Fills misses that the disk cannot; absent for an object that only this node has.
  std::shared_ptr<Source> source;
  /// Its files are under cache/, and get pages as the source brings them, and lose them.
  bool in_cache = false;
};

/// What the page store must be told to open an object whose bytes come from elsewhere; see
/// PageStore::attach_cached. Value type.
struct CachedSpec {
  ObjectKey key;
  uint64_t size_bytes = 0;
  std::shared_ptr<Source> source;
};

/// How many of an object's pages sit where. Value type.
struct Residency {
  uint64_t pages = 0;
  uint64_t memory_pages = 0;
  uint64_t disk_pages = 0;  ///< includes pages known to be zero, which take no space
  uint64_t zero_pages = 0;
};

/// The nearest tier that has a page.
enum class Place : uint8_t {
  kMemory,
  kDisk,
  kRemote,  ///< only the object's source
  kZero,    ///< it is known to be zeros, which no tier stores
  kLost,    ///< none: a read fails
};

/// Adjacent bytes of an object that are in one place. Value type.
struct MapRun {
  uint64_t length = 0;  ///< bytes, not 0
  Place place = Place::kMemory;

  friend bool operator==(const MapRun&, const MapRun&) = default;
};

/// One immutable run of bytes in the page store, as every door reads it. Users hold it by
/// ObjectRef; while one is held the object's disk file stays readable even if its name is gone.
///
/// Thread-safe. Must not outlive the PageStore.
class Object {
 public:
  /// The longest single read, in bytes; a door asks for more in pieces.
  static constexpr uint64_t kMaxRead = uint64_t{1} << 20;
  /// As far as one look at the page map goes, so that a petabyte is not one request.
  static constexpr uint64_t kMaxMapped = uint64_t{4} << 30;

  /// The bytes, or why they cannot be had: OUT_OF_RANGE (not inside the object), DATA_LOSS (the
  /// disk's copy is damaged and there is no other), UNAVAILABLE and others from the source,
  /// CANCELLED.
  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<PinnedRange>)>;

  virtual ~Object() = default;

  [[nodiscard]] virtual const ObjectKey& key() const = 0;
  [[nodiscard]] virtual uint64_t size_bytes() const = 0;

  /// The hit path: when L0 holds all of [offset, offset + length), pins it into `range` (whatever
  /// that held is released) and returns true. Takes no lock, no allocation up to two extents, and
  /// never blocks. Returns false when any page is missing or the range is empty, longer than
  /// kMaxRead or not inside the object.
  [[nodiscard]] virtual bool try_read(uint64_t offset, uint64_t length, PinnedRange& range) = 0;

  /// Reads [offset, offset + length) from whatever tier has it and calls `done` exactly once: on
  /// this thread before returning when L0 has it all or the range is bad, later on a thread of the
  /// store otherwise. `done` must not block. Misses are fetched page by page and shared with every
  /// other reader of them.
  virtual PendingRead read(uint64_t offset, uint64_t length, ReadDone done) = 0;

  /// The same, waiting for the answer on this thread. Never call it on a thread of the store (in a
  /// ReadDone).
  [[nodiscard]] absl::StatusOr<PinnedRange> read_wait(uint64_t offset, uint64_t length);

  /// The runs, in the object's order and from `offset` on, or why they cannot be told:
  /// OUT_OF_RANGE, CANCELLED, or the disk's error.
  using MapDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<MapRun>>)>;

  /// Tells where the bytes [offset, offset + length) are, as of a moment in between: page by page,
  /// adjacent pages of one place as one run. It may tell less than was asked, but something: it
  /// ends after `max_runs` runs (at least 1), or kMaxMapped bytes. Calls `done` exactly once, on
  /// this thread before returning when the page map is known, later on a thread of the store
  /// otherwise. `done` must not block. Moves no page.
  virtual PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) = 0;

  /// Counts pages by tier; reads the page map, so it may block on the disk for a moment. Pages
  /// whose file or map is lost are on no disk.
  [[nodiscard]] virtual absl::StatusOr<Residency> residency() = 0;

  /// The object's file, if all of the object is on disk and every page of it was read from there
  /// and matched its checksum, by whoever read it or by a scrub, since it was written and since the
  /// store was opened. Nobody checks it again while it is lent, and nothing of it is evicted; the
  /// object is in use, and was used when the lease ends. Moves no page.
  ///
  /// FAILED_PRECONDITION when it is not to be had, or not yet: pages of which only memory knows
  /// that they are right are verified in the background then. Else the disk's error.
  [[nodiscard]] virtual absl::StatusOr<LentFile> lend_file() = 0;
};

using ObjectRef = std::shared_ptr<Object>;

}  // namespace blobcache::page
