#pragma once

#include <chrono>
#include <cstdint>

namespace blobcache::page {

/// Nanoseconds since some moment, by a clock that never goes back, whoever sets the time. Never 0.
/// Thread-safe.
[[nodiscard]] inline int64_t monotonic_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() + 1;
}

}  // namespace blobcache::page
