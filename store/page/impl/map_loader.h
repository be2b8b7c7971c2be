#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/impl/flight_table.h"
#include "store/page/impl/map_cache.h"

namespace blobcache::page {

class MapRepairer;
class ObjectImpl;

/// Brings page map blocks: from the cache, from the object's catalog row (inline maps) or from its
/// map file. What it brings is checked, and told to the block's extents the first time.
/// Thread-safe.
class MapLoader {
 public:
  using Loaded = absl::AnyInvocable<void(absl::StatusOr<MapCache::Block>)>;

  MapLoader(uint64_t cache_bytes, FlightTable& flights, DiskTier& disk, MapRepairer& repairer)
      : cache_(cache_bytes), flights_(flights), disk_(disk), repairer_(repairer) {}

  /// Calls `loaded` with the block: on this thread when it is at hand, else on another of the
  /// store's. A damaged map is made again first, when the object's file can vouch for it; else
  /// DATA_LOSS, also for an object whose file is gone.
  void load(const std::shared_ptr<ObjectImpl>& object, uint64_t block, Loaded loaded);

  /// A block of a cached object has changed and is about to be written to its file: from now on
  /// load() brings this one. written() must follow, whatever became of the writing. One thread at a
  /// time.
  void change(ObjectImpl& object, uint64_t number, MapCache::Block block);
  void written(ObjectImpl& object, uint64_t number);

 private:
  using Key = std::pair<uint64_t, uint64_t>;  ///< object, block number

  /// As load(), without repairing.
  void load_once(const std::shared_ptr<ObjectImpl>& object, uint64_t block, Loaded loaded);
  /// A read of a block that is under way.
  struct FileRead {
    std::shared_ptr<ObjectImpl> object;
    uint64_t block = 0;
    uint64_t version = 0;  ///< of the object's map when it began
    bool again = false;    ///< the disk failed the first
  };
  /// Reads the block from the map file for all who ask meanwhile.
  void read_file(const std::shared_ptr<ObjectImpl>& object, uint64_t block, bool again = false);
  void file_read(const FileRead& read, int result, absl::Span<const std::byte> bytes);
  void answer(const Key& key, const absl::StatusOr<MapCache::Block>& result)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Caches a decoded block and tells its extents; or counts and explains the damage.
  absl::StatusOr<MapCache::Block> accept(ObjectImpl& object, uint64_t number,
                                         absl::StatusOr<MapBlock> decoded);

  MapCache cache_;
  FlightTable& flights_;
  DiskTier& disk_;
  MapRepairer& repairer_;
  absl::Mutex mutex_;
  /// Who waits for a block that is being read; bounded by the reads in flight.
  absl::flat_hash_map<Key, std::vector<Loaded>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
