#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

#include "absl/status/status.h"

namespace blobcache::volume {

/// What stays free of the file system that the volumes are on, whatever their budget has. Value
/// type.
struct FreeSpace {
  uint64_t reserve_bytes = 0;  ///< 0: the file system itself tells when it is full
  /// How many bytes are free now, for us. Any thread; called with an extent's lock held, so it does
  /// not wait. Absent: nobody looks.
  std::function<uint64_t()> free_bytes;

  /// Of the file system of `path`, which is there.
  [[nodiscard]] static FreeSpace of(std::filesystem::path path, uint64_t reserve_bytes);
};

/// How many bytes the volumes of a store may take together. A volume charges each page before it
/// takes the space, and gives it back when the page is punched. Thread-safe, without locks.
class SpaceBudget {
 public:
  /// The file system is looked at once for so many bytes that are taken, and for each take when it
  /// has less: what others write between two looks may be missed, as far as this goes.
  static constexpr uint64_t kBytesALook = uint64_t{1} << 20;

  explicit SpaceBudget(uint64_t limit_bytes = std::numeric_limits<uint64_t>::max(),
                       FreeSpace space = {})
      : limit_(limit_bytes), space_(std::move(space)) {}
  SpaceBudget(const SpaceBudget&) = delete;
  SpaceBudget& operator=(const SpaceBudget&) = delete;

  /// RESOURCE_EXHAUSTED, and nothing is taken, when that would pass the limit or leave less than
  /// the reserve free.
  [[nodiscard]] absl::Status take(uint64_t bytes);
  /// For what is there already, whatever the limit is.
  void take_anyway(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  /// What is taken beyond a lower limit stays taken.
  void set_limit(uint64_t limit_bytes) { limit_.store(limit_bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t limit_bytes() const { return limit_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] bool take_of_limit(uint64_t bytes);
  [[nodiscard]] absl::Status take_of_free(uint64_t bytes);

  std::atomic<uint64_t> limit_;
  std::atomic<uint64_t> used_{0};
  const FreeSpace space_;
  /// Of what was free at the last look, beside the reserve: may be taken without another.
  std::atomic<uint64_t> seen_free_{0};
};

}  // namespace blobcache::volume
