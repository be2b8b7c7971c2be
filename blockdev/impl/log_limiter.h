#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace blobcache::blockdev {

/// Lets one log line a second through, so that a client cannot fill the log. Thread-safe.
class LogLimiter {
 public:
  [[nodiscard]] bool allow() {
    const int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(
                            std::chrono::steady_clock::now().time_since_epoch())
                            .count();
    int64_t next = next_ms_.load(std::memory_order_relaxed);
    return now >= next && next_ms_.compare_exchange_strong(next, now + kIntervalMs);
  }

 private:
  static constexpr int64_t kIntervalMs = 1000;
  std::atomic<int64_t> next_ms_ = 0;
};

}  // namespace blobcache::blockdev
