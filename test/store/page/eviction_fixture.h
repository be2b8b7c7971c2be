#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "store/page/eviction.h"

namespace blobcache::page {

/// A cache of `slots` extents, all of one size, over a policy: a miss evicts one when it is full.
class EvictionFixture {
 public:
  EvictionFixture(std::string_view policy, uint32_t slots)
      : uses_(slots), policy_(make_eviction_policy(policy, slots, uses_).value()), held_(slots) {
    for (uint32_t slot = slots; slot > 0; --slot) free_.push_back(slot - 1);
  }

  /// Reads an extent in `touches` pieces; whether it was there.
  bool read(uint64_t identity, int touches = 1) {
    const auto at = slots_.find(identity);
    const bool hit = at != slots_.end();
    const uint32_t slot = hit ? at->second : insert(identity);
    for (int touch = 0; touch < touches; ++touch) uses_.use(slot);
    return hit;
  }
  [[nodiscard]] bool holds(uint64_t identity) const { return slots_.contains(identity); }
  /// How many of first to last - 1.
  [[nodiscard]] size_t held(uint64_t first, uint64_t last) const {
    size_t count = 0;
    for (uint64_t identity = first; identity < last; ++identity) count += slots_.count(identity);
    return count;
  }

  [[nodiscard]] EvictionPolicy& policy() { return *policy_; }
  [[nodiscard]] UseCounters& uses() { return uses_; }

 private:
  uint32_t insert(uint64_t identity) {
    if (free_.empty()) {
      const uint32_t victim = policy_->evict().value();
      slots_.erase(held_[victim]);
      free_.push_back(victim);
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    slots_.emplace(identity, slot);
    held_[slot] = identity;
    policy_->insert(slot, identity);
    return slot;
  }

  UseCounters uses_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<uint64_t> held_;  ///< identities, by slot
  std::unordered_map<uint64_t, uint32_t> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace blobcache::page
