#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Decoded page map blocks, the most recently used ones up to a number: what a miss checks its
/// pages against. A block that is being written to its file stays until it is there, so that nobody
/// needs to read a file that is being written. Thread-safe; only misses come here.
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

  /// Nothing when the block is here already: what is here is at least as new.
  void insert(uint64_t object, uint64_t number, Block block) {
    absl::MutexLock lock(&mutex_);
    const Key key{object, number};
    if (!index_.contains(key)) add(key, std::move(block));
  }

  /// The block has changed and is about to be written; written() must follow. The writers bound how
  /// many there are.
  void insert_unwritten(uint64_t object, uint64_t number, Block block) {
    absl::MutexLock lock(&mutex_);
    const Key key{object, number};
    if (const auto at = index_.find(key); at != index_.end()) {
      at->second->block = std::move(block);
    } else {
      add(key, std::move(block));
    }
    index_[key]->unwritten = true;
  }
  void written(uint64_t object, uint64_t number) {
    absl::MutexLock lock(&mutex_);
    if (const auto at = index_.find({object, number}); at != index_.end()) {
      at->second->unwritten = false;
    }
  }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  ///< object, block number
  struct Entry {
    Key key;
    Block block;
    bool unwritten = false;
  };

  void add(const Key& key, Block block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    order_.push_front({key, std::move(block)});
    index_[key] = order_.begin();
    if (order_.size() <= capacity_) return;
    auto oldest = std::prev(order_.end());
    while (oldest->unwritten && oldest != order_.begin()) --oldest;
    // The newest, which nobody has seen yet, stays in any case.
    if (oldest == order_.begin()) return;
    index_.erase(oldest->key);
    order_.erase(oldest);
  }

  const uint64_t capacity_;
  absl::Mutex mutex_;
  std::list<Entry> order_ ABSL_GUARDED_BY(mutex_);  ///< most recently used first
  absl::flat_hash_map<Key, std::list<Entry>::iterator> index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
