#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"

namespace blobcache::page {

/// How often each slot was used since the eviction policy last looked: saturating counters that a
/// hit bumps without a lock. Thread-safe.
class UseCounters {
 public:
  static constexpr uint8_t kMax = 3;

  explicit UseCounters(size_t slots) : uses_(std::make_unique<std::atomic<uint8_t>[]>(slots)) {}

  void use(uint32_t slot) {
    // A lost update under contention loses one use of many; a hit stays free of read-modify-write.
    const uint8_t uses = uses_[slot].load(std::memory_order_relaxed);
    if (uses < kMax) uses_[slot].store(static_cast<uint8_t>(uses + 1), std::memory_order_relaxed);
  }
  [[nodiscard]] uint8_t get(uint32_t slot) const {
    return uses_[slot].load(std::memory_order_relaxed);
  }
  void set(uint32_t slot, uint8_t uses) { uses_[slot].store(uses, std::memory_order_relaxed); }

 private:
  std::unique_ptr<std::atomic<uint8_t>[]> uses_;
};

/// Decides which slot (frame) goes next. Pure: no I/O, no clock, no lock; the owner guards it.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  /// `slot` now holds the extent that `identity` (a hash) names. It must not be in the policy
  /// already.
  virtual void insert(uint32_t slot, uint64_t identity) = 0;
  /// Forgets a slot without counting it as evicted; one that is not there is no error.
  virtual void erase(uint32_t slot) = 0;
  /// Takes the next victim out. Nothing when no slot is in.
  [[nodiscard]] virtual std::optional<uint32_t> evict() = 0;
  /// A victim could not go (it is pinned): it comes back as a slot in use.
  virtual void restore(uint32_t slot, uint64_t identity) = 0;
  [[nodiscard]] virtual size_t size() const = 0;
};

/// The policy called `name` for slots 0 to slots - 1: "s3-fifo". INVALID_ARGUMENT, with the known
/// names, for another. `uses` must outlive it.
[[nodiscard]] absl::StatusOr<std::unique_ptr<EvictionPolicy>> make_eviction_policy(
    std::string_view name, size_t slots, UseCounters& uses);

}  // namespace blobcache::page
