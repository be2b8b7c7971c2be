#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// How often each slot was used since the eviction policy last looked: saturating counters that a
/// hit bumps without a lock. Thread-safe.
class UseCounters {
 public:
  static constexpr uint8_t kMax = 3;

  explicit UseCounters(size_t slots) : uses_(slots) {}

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
  ZeroVector<std::atomic<uint8_t>> uses_;
};

/// Decides which slot goes next. A slot is whatever holds one extent: a frame of the memory tier, a
/// number in a table of the disk tier. Pure: no I/O, no clock, no lock, no thread; the owner guards
/// it, while others may call UseCounters::use at any time. Each call is O(1), amortised: a slot
/// that was used is passed over as often as it was used.
///
/// Slots may come in any order and without uses, as after a restart. The first use after insert()
/// is taken for the read that brought the extent, not for a second one.
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

/// What the store uses unless it is told otherwise; docs/architecture.md says why.
inline constexpr std::string_view kDefaultEvictionPolicy = "s3-tinylfu";

/// The names of all policies, the default first.
[[nodiscard]] std::span<const std::string_view> eviction_policy_names();

/// The policy called `name` for slots 0 to slots - 1, which `uses` counts and must outlive it.
/// INVALID_ARGUMENT, with the known names, for another.
[[nodiscard]] absl::StatusOr<std::unique_ptr<EvictionPolicy>> make_eviction_policy(
    std::string_view name, size_t slots, UseCounters& uses);

}  // namespace blobcache::page
