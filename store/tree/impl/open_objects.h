#pragma once

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"

namespace blobcache::tree {

/// Which blobs somebody has open, by the row of the catalog. Holds none of them open itself.
/// Memory: a small entry for each blob that is open, and at most as many for those that no longer
/// are. Thread-safe.
class OpenObjects {
 public:
  void note(int64_t blob, const page::ObjectRef& object) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool is_open(int64_t blob) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static constexpr size_t kFirstPrune = 1024;

  absl::Mutex mutex_;
  absl::flat_hash_map<int64_t, std::weak_ptr<page::Object>> objects_ ABSL_GUARDED_BY(mutex_);
  size_t prune_at_ ABSL_GUARDED_BY(mutex_) = kFirstPrune;
};

}  // namespace blobcache::tree
