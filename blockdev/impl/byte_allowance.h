#pragma once

#include <atomic>
#include <cstdint>

namespace blobcache::blockdev {

/// How many bytes a server's connections may hold of something, all together: an upper bound, so
/// that many of them cannot eat the machine. Thread-safe.
class ByteAllowance {
 public:
  explicit ByteAllowance(uint64_t bytes) : left_(bytes) {}

  /// False, with nothing taken, when fewer are left.
  [[nodiscard]] bool take(uint64_t bytes) {
    uint64_t left = left_.load(std::memory_order_relaxed);
    do {
      if (left < bytes) return false;
    } while (!left_.compare_exchange_weak(left, left - bytes, std::memory_order_relaxed));
    return true;
  }
  void give_back(uint64_t bytes) { left_.fetch_add(bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t left() const { return left_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> left_;
};

}  // namespace blobcache::blockdev
