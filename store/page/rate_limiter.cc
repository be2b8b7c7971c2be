#include "store/page/rate_limiter.h"

#include <algorithm>

namespace blobcache::page {

absl::Duration RateLimiter::take(absl::Time now, uint64_t bytes) {
  if (bytes_per_second_ == 0) return absl::ZeroDuration();
  const absl::Time start = std::max(next_, now - kSlack);
  next_ =
      start + absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_));
  return std::max(start - now, absl::ZeroDuration());
}

}  // namespace blobcache::page
