#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "store/page/eviction.h"
#include "store/page/slot_queue.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// CLOCK (Corbato: "A paging experiment with the Multics system", 1969): a FIFO in which a slot
/// that was used since it was last looked at goes round once more. It comes near LRU without LRU's
/// work on a hit, and like LRU it keeps nothing while a scan or a longer loop passes.
///
/// Not thread-safe; the owner guards it. Memory: 10 bytes a slot.
class Clock final : public EvictionPolicy {
 public:
  Clock(size_t slots, UseCounters& uses)
      : uses_(uses), links_(slots), states_(slots), queue_(links_) {}

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return queue_.size(); }

 private:
  enum class State : uint8_t { kOut, kNew, kSeen };

  UseCounters& uses_;
  ZeroVector<SlotLink> links_;
  ZeroVector<State> states_;
  SlotQueue queue_;
};

}  // namespace blobcache::page
