#include "bench/hit_ratio/simulator.h"

#include <algorithm>
#include <vector>

#include "store/page/eviction.h"
#include "store/page/geometry.h"

namespace blobcache::hit_ratio {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

/// A fixed scramble (the finaliser of MurmurHash3, by Austin Appleby), so that runs are alike.
uint64_t identity_of(uint32_t extent) {
  uint64_t bits = extent + uint64_t{0x9e3779b97f4a7c15};
  bits = (bits ^ (bits >> 33)) * uint64_t{0xff51afd7ed558ccd};
  bits = (bits ^ (bits >> 33)) * uint64_t{0xc4ceb9fe1a85ec53};
  return bits ^ (bits >> 33);
}

/// The cache: which extent is in which slot.
class Cache {
 public:
  Cache(const Trace& trace, uint64_t capacity_bytes, page::EvictionPolicy& policy)
      : sizes_(trace.sizes),
        capacity_(capacity_bytes),
        policy_(policy),
        slots_(trace.sizes.size(), kNone),
        extents_(slots_for(trace, capacity_bytes)) {
    for (size_t slot = extents_.size(); slot > 0; --slot) {
      free_.push_back(static_cast<uint32_t>(slot - 1));
    }
  }

  [[nodiscard]] uint32_t slot_of(uint32_t extent) const { return slots_[extent]; }

  /// The slot that the extent is in now; kNone when it is larger than the cache.
  uint32_t insert(uint32_t extent) {
    if (sizes_[extent] > capacity_) return kNone;
    while (used_ + sizes_[extent] > capacity_ || free_.empty()) evict();
    const uint32_t slot = free_.back();
    free_.pop_back();
    used_ += sizes_[extent];
    slots_[extent] = slot;
    extents_[slot] = extent;
    policy_.insert(slot, identity_of(extent));
    return slot;
  }

 private:
  void evict() {
    const uint32_t victim = policy_.evict().value();
    slots_[extents_[victim]] = kNone;
    used_ -= sizes_[extents_[victim]];
    free_.push_back(victim);
  }

  const std::vector<uint32_t>& sizes_;
  const uint64_t capacity_;
  page::EvictionPolicy& policy_;
  uint64_t used_ = 0;
  std::vector<uint32_t> slots_;    ///< of extents
  std::vector<uint32_t> extents_;  ///< of slots
  std::vector<uint32_t> free_;
};

}  // namespace

size_t slots_for(const Trace& trace, uint64_t capacity_bytes) {
  const uint64_t full_extents = std::max<uint64_t>(1, capacity_bytes >> page::kExtentShift);
  return std::min<uint64_t>(8 * full_extents, trace.sizes.size());
}

Result replay(const Trace& trace, uint64_t capacity_bytes, page::EvictionPolicy& policy,
              page::UseCounters& uses) {
  Cache cache(trace, capacity_bytes, policy);
  Result result;
  for (const Request& request : trace.requests) {
    uint32_t slot = cache.slot_of(request.extent);
    result.count(trace.sizes[request.extent], slot != kNone);
    if (slot == kNone) slot = cache.insert(request.extent);
    for (uint32_t touch = 0; slot != kNone && touch < request.touches; ++touch) uses.use(slot);
  }
  return result;
}

}  // namespace blobcache::hit_ratio
