#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Decoded page map blocks, the most recently used ones up to a number: what a miss checks its
/// pages against. Thread-safe; only misses come here.
class MapCache {
 public:
  using Block = std::shared_ptr<const MapBlock>;

  /// `budget_bytes` of blocks (4 KiB each), at least one.
  explicit MapCache(uint64_t budget_bytes)
      : capacity_(std::max<uint64_t>(1, budget_bytes / kMapBlockSize)) {}

  [[nodiscard]] Block find(uint64_t object, uint64_t block) {
    absl::MutexLock lock(&mutex_);
    const auto at = index_.find({object, block});
    if (at == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, at->second);
    return at->second->block;
  }

  void insert(uint64_t object, uint64_t number, Block block) {
    absl::MutexLock lock(&mutex_);
    const Key key{object, number};
    const auto at = index_.find(key);
    if (at != index_.end()) {
      at->second->block = std::move(block);
      return;
    }
    order_.push_front({key, std::move(block)});
    index_[key] = order_.begin();
    if (order_.size() > capacity_) {
      index_.erase(order_.back().key);
      order_.pop_back();
    }
  }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  ///< object, block number
  struct Entry {
    Key key;
    Block block;
  };

  const uint64_t capacity_;
  absl::Mutex mutex_;
  std::list<Entry> order_ ABSL_GUARDED_BY(mutex_);  ///< most recently used first
  absl::flat_hash_map<Key, std::list<Entry>::iterator> index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
