#include "store/page/impl/disk_health.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>

namespace blobcache::page {

bool DiskHealth::may_try() {
  if (!is_out()) return true;
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_();
  if (now < next_try_) return false;
  next_try_ = now + pause_;
  return true;
}

void DiskHealth::failed(int error) {
  const uint32_t in_a_row = in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (in_a_row < kErrorsInARow) return;
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_();
  if (!out_.exchange(true, std::memory_order_relaxed)) {
    pause_ = kFirstPause;
    spdlog::error("the disk tier is out of use after {} errors in a row, the last: {}", in_a_row,
                  std::generic_category().message(error));
  } else if (next_try_ <= now + pause_) {
    // The request that was let through failed as well; those that were under way do not count.
    pause_ = std::min(2 * pause_, kLongestPause);
  }
  next_try_ = now + pause_;
}

void DiskHealth::recover() {
  in_a_row_.store(0, std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  if (out_.exchange(false, std::memory_order_relaxed)) spdlog::warn("the disk tier is back in use");
}

}  // namespace blobcache::page
