#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

namespace blobcache::volume {

/// How many bytes the volumes of a store may take together. A volume charges each page before it
/// takes the space, and gives it back when the page is punched. Thread-safe, without locks.
class SpaceBudget {
 public:
  explicit SpaceBudget(uint64_t limit_bytes = std::numeric_limits<uint64_t>::max())
      : limit_(limit_bytes) {}
  SpaceBudget(const SpaceBudget&) = delete;
  SpaceBudget& operator=(const SpaceBudget&) = delete;

  /// False, and nothing is taken, when that would pass the limit.
  [[nodiscard]] bool take(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t limit = limit_.load(std::memory_order_relaxed);
      if (used > limit || bytes > limit - used) return false;
      if (used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed)) return true;
    }
  }
  /// For what is there already, whatever the limit is.
  void take_anyway(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  /// What is taken beyond a lower limit stays taken.
  void set_limit(uint64_t limit_bytes) { limit_.store(limit_bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t limit_bytes() const { return limit_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> limit_;
  std::atomic<uint64_t> used_{0};
};

}  // namespace blobcache::volume
