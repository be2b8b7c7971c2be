#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/cache_folder.h"
#include "store/page/impl/cached_extents.h"
#include "store/page/impl/object_table.h"

namespace blobcache::page {

/// What the parts of the disk cache share. Lock order: `mutex` before the object table's, the
/// memory tier's and a flight shard's.
struct CacheState {
  CacheState(DiskTier& disk_tier, ObjectTable& table)
      : disk(disk_tier), objects(table), folder(disk_tier) {}

  /// What cached objects take on disk.
  [[nodiscard]] uint64_t bytes() const ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    return extents->bytes();
  }

  DiskTier& disk;
  ObjectTable& objects;
  const CacheFolder folder;
  StoreCore* core = nullptr;  ///< from DiskCache::start() on
  mutable absl::Mutex mutex;
  std::unique_ptr<CachedExtents> extents ABSL_GUARDED_BY(mutex);
};

/// What the object table makes a cached object from.
[[nodiscard]] inline ObjectSpec spec_of(const CachedFile& file, std::shared_ptr<Source> source) {
  return {.key = file.key,
          .incarnation = file.incarnation,
          .size_bytes = file.size_bytes,
          .retention = Retention::kCached,
          .inline_map = {},
          .source = std::move(source),
          .in_cache = true};
}

}  // namespace blobcache::page
