#pragma once

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace blobcache::page {

/// Keeps a message that may come a thousand times a second to one line a pause. Those left out are
/// counted, and the next line tells how many.
///
/// Pure: who logs tells the time. Thread-safe.
class LogLimit {
 public:
  explicit LogLimit(absl::Duration pause = absl::Seconds(1)) : pause_(pause) {}

  /// Whether to write a line at `now`: how many were left out since the last one, or nothing when
  /// this one is left out, too.
  [[nodiscard]] std::optional<uint64_t> admit(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    // A clock that was set back must not silence the log until it has caught up.
    if (now >= last_ && now - last_ < pause_) {
      ++left_out_;
      return std::nullopt;
    }
    last_ = now;
    const uint64_t left_out = left_out_;
    left_out_ = 0;
    return left_out;
  }

 private:
  const absl::Duration pause_;
  absl::Mutex mutex_;
  absl::Time last_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::page
