#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace blobcache::fusefs {

/// Lets one log line a second through, so that a damaged file that is read in a loop does not drown
/// the rest. Thread-safe, without a lock.
class LogLimit {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::nanoseconds kInterval = std::chrono::seconds(1);

  /// Empty when this line should be left out, else how many were left out since the last that was
  /// not.
  [[nodiscard]] std::optional<uint64_t> admit(Clock::time_point now) {
    Clock::time_point next = next_.load(std::memory_order_relaxed);
    if (now < next ||
        !next_.compare_exchange_strong(next, now + kInterval, std::memory_order_relaxed)) {
      left_out_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    return left_out_.exchange(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<Clock::time_point> next_{Clock::time_point::min()};
  std::atomic<uint64_t> left_out_{0};
};

}  // namespace blobcache::fusefs
