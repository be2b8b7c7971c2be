#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// Fails the n-th step of a kind, or all from there on; and counts the steps of every kind.
/// Thread-safe: the store's threads may be in a step while the test arms the next one.
class Faults {
 public:
  static constexpr size_t kKinds = static_cast<size_t>(DiskStep::Kind::kAttribute) + 1;
  /// As a result: move half of the step's bytes at first.
  static constexpr int kHalf = 1 << 30;

  DiskFault hook() {
    return [this](const DiskStep& step) {
      ++counts[static_cast<size_t>(step.kind)];
      const absl::MutexLock lock(&mutex_);
      if (!armed_ || step.kind != kind_) return 0;
      const int number = seen_++;
      if (number != at_ && (!for_good_ || number < at_)) return 0;
      return result_ == kHalf ? static_cast<int>(step.bytes / 2) : result_;
    };
  }
  void arm(DiskStep::Kind kind, int number, int result, bool from_there_on = false) {
    const absl::MutexLock lock(&mutex_);
    kind_ = kind;
    at_ = number;
    result_ = result;
    for_good_ = from_there_on;
    seen_ = 0;
    armed_ = true;
  }
  void disarm() {
    const absl::MutexLock lock(&mutex_);
    armed_ = false;
  }
  /// Steps of the armed kind that came while it was armed.
  [[nodiscard]] int seen() const {
    const absl::MutexLock lock(&mutex_);
    return seen_;
  }
  /// Whether the step that was armed has come.
  [[nodiscard]] bool hit() const {
    const absl::MutexLock lock(&mutex_);
    return seen_ > at_;
  }

  std::array<std::atomic<int>, kKinds> counts{};

 private:
  mutable absl::Mutex mutex_;
  DiskStep::Kind kind_ ABSL_GUARDED_BY(mutex_) = DiskStep::Kind::kRead;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
  bool for_good_ ABSL_GUARDED_BY(mutex_) = false;
  int at_ ABSL_GUARDED_BY(mutex_) = 0;
  int result_ ABSL_GUARDED_BY(mutex_) = 0;
  int seen_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::page
