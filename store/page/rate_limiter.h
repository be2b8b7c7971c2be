#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace blobcache::page {

/// Spaces steps of work so that they move no more than a number of bytes a second. A step that
/// comes late may catch up, but by no more than kSlack: whoever waited long for something else does
/// not make up for it in one burst. So in any time T at most rate * (T + kSlack) bytes and one step
/// are moved.
///
/// Pure: the caller brings the time, and waits. Not thread-safe.
class RateLimiter {
 public:
  static constexpr absl::Duration kSlack = absl::Milliseconds(100);

  /// 0: no limit.
  explicit RateLimiter(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  /// A step of `bytes` is to be taken. How long to wait before it, counted from `now`; never
  /// negative.
  [[nodiscard]] absl::Duration take(absl::Time now, uint64_t bytes);

 private:
  const uint64_t bytes_per_second_;
  absl::Time next_ = absl::InfinitePast();  ///< when all steps so far are paid for
};

}  // namespace blobcache::page
