#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/io_ring.h"

namespace blobcache::page {

/// Operations of a ring that one thread starts and then waits for together.
class IoBatch {
 public:
  IoBatch() = default;
  IoBatch(const IoBatch&) = delete;
  IoBatch& operator=(const IoBatch&) = delete;
  ~IoBatch() { wait(); }

  /// What to give to the ring for one more operation. Its outcome goes to `result`, which stays
  /// until wait() has returned.
  [[nodiscard]] IoRing::Done add(int& result) {
    absl::MutexLock lock(&mutex_);
    ++under_way_;
    return [this, &result](int outcome) { one_done(result, outcome); };
  }

  void wait() {
    absl::MutexLock lock(&mutex_);
    const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return under_way_ == 0; };
    mutex_.Await(absl::Condition(&over));
  }

 private:
  void one_done(int& result, int outcome) {
    absl::MutexLock lock(&mutex_);
    result = outcome;
    --under_way_;
  }

  absl::Mutex mutex_;
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::page
