#include "store/page/impl/disk_health.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace blobcache::page {

bool DiskHealth::may_try() {
  if (!is_out()) return true;
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_();
  if (now < next_try_) return false;
  next_try_ = now + pause_;
  trying_ = true;
  return true;
}

void DiskHealth::failed(int error) {
  last_error_.store(error, std::memory_order_relaxed);
  const uint32_t in_a_row = in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (in_a_row < kErrorsInARow && error != EROFS) return;
  absl::MutexLock lock(&mutex_);
  if (!out_.exchange(true, std::memory_order_relaxed)) {
    pause_ = kFirstPause;
    spdlog::error("the disk tier is out of use for {}; failures in a row: {}, the last: {}", what_,
                  in_a_row, std::generic_category().message(error));
  } else if (std::exchange(trying_, false)) {
    pause_ = std::min(2 * pause_, kLongestPause);
  } else {
    return;  // it was under way, or has nowhere else to go: it does not put the next try off
  }
  next_try_ = clock_() + pause_;
}

void DiskHealth::recover() {
  in_a_row_.store(0, std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  trying_ = false;
  if (out_.exchange(false, std::memory_order_relaxed)) {
    spdlog::warn("the disk tier is back in use for {}", what_);
  }
}

}  // namespace blobcache::page
