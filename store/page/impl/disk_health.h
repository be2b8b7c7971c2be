#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace blobcache::page {

/// Whether the disk tier can be relied on, for reads or for writes. After several I/O errors in a
/// row it is out of use: what another tier can bring is had from there without asking the disk, and
/// puts are refused at once. From time to time one request is let through to see (after a second,
/// then twice as long each time, up to a minute); its success puts the tier back in use. A file
/// system that is read-only says so once for all: it is out of use at once.
///
/// A damaged page or a file that is gone says nothing about the disk and does not count.
///
/// Thread-safe; two relaxed loads while all is well.
class DiskHealth {
 public:
  static constexpr uint32_t kErrorsInARow = 8;
  static constexpr absl::Duration kFirstPause = absl::Seconds(1);
  static constexpr absl::Duration kLongestPause = absl::Minutes(1);

  /// `clock` may be called by any thread. `what` is asked of the disk, in the plural, for the log.
  explicit DiskHealth(std::function<absl::Time()> clock = absl::Now, const char* what = "steps")
      : clock_(std::move(clock)), what_(what) {}

  /// Whether to ask the disk now. While it is out of use true for one caller a pause.
  [[nodiscard]] bool may_try() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool is_out() const { return out_.load(std::memory_order_relaxed); }

  /// The errno value of the last failure; 0 before the first.
  [[nodiscard]] int last_error() const { return last_error_.load(std::memory_order_relaxed); }

  void succeeded() {
    if (in_a_row_.load(std::memory_order_relaxed) != 0) recover();
  }
  /// `error` is an errno value.
  void failed(int error) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void recover() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<absl::Time()> clock_;
  const char* const what_;
  std::atomic<int> last_error_{0};
  std::atomic<uint32_t> in_a_row_{0};
  std::atomic<bool> out_{false};
  absl::Mutex mutex_;
  absl::Duration pause_ ABSL_GUARDED_BY(mutex_) = kFirstPause;
  absl::Time next_try_ ABSL_GUARDED_BY(mutex_);
  bool trying_ ABSL_GUARDED_BY(mutex_) = false;  ///< one was let through, and its outcome is open
};

}  // namespace blobcache::page
