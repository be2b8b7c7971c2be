#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "store/page/eviction.h"
#include "store/page/slot_queue.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024): a FIFO in
/// which a hand moves from old to new, spares what was used since it last came by, where it
/// stands, and takes the first that was not. Newcomers are judged soon, and what has proved itself
/// stays behind the hand. Simple, and good where popularity is skewed; a scan in small pieces looks
/// like use to it.
///
/// Not thread-safe; the owner guards it. Memory: 10 bytes a slot.
class Sieve final : public EvictionPolicy {
 public:
  Sieve(size_t slots, UseCounters& uses)
      : uses_(uses), links_(slots), states_(slots), queue_(links_) {}

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return queue_.size(); }

 private:
  enum class State : uint8_t { kOut, kNew, kSeen };

  void take(uint32_t slot);

  UseCounters& uses_;
  ZeroVector<SlotLink> links_;
  ZeroVector<State> states_;
  SlotQueue queue_;
  uint32_t hand_ = SlotQueue::kNone;  ///< kNone: at the oldest
};

}  // namespace blobcache::page
