#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "store/page/eviction.h"
#include "store/page/ghost_queue.h"
#include "store/page/slot_queue.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO queues are all you need for cache eviction", SOSP
/// 2023): a small FIFO that takes newcomers (a tenth of the slots), a main FIFO for what was used
/// again, and a ghost FIFO that remembers the identities of what left the small one unused. A scan
/// passes through the small queue and leaves the main one alone.
///
/// Two changes. An extent that is read in small pieces is used many times within a moment; so uses
/// count only from when half the small queue has come after it (the correlation window of 2Q,
/// Johnson and Shasha, VLDB 1994, put into a FIFO by Clock2Q+). And while the cache fills, what the
/// small queue has no place for enters the main one, so that a loop larger than the cache leaves a
/// part of itself in it.
///
/// Not thread-safe; the owner guards it. Memory: 17 bytes a slot and about 40 for each slot in use.
class S3Fifo final : public EvictionPolicy {
 public:
  S3Fifo(size_t slots, UseCounters& uses);

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return small_size() + main_.size(); }

 private:
  enum class Where : uint8_t { kNowhere, kFresh, kSmall, kMain };

  [[nodiscard]] SlotQueue& queue(Where where);
  [[nodiscard]] size_t small_size() const { return fresh_.size() + small_.size(); }
  [[nodiscard]] size_t small_target() const;
  void push(Where where, uint32_t slot);
  void remove(uint32_t slot);
  /// From the correlation window into the rest of the small queue: from now on uses count.
  void settle();
  /// The small queue's oldest, taken out. It must not be empty.
  [[nodiscard]] uint32_t pop_small();
  [[nodiscard]] std::optional<uint32_t> evict_small();
  [[nodiscard]] std::optional<uint32_t> evict_main();

  UseCounters& uses_;
  ZeroVector<SlotLink> links_;
  ZeroVector<uint64_t> identities_;
  ZeroVector<Where> places_;
  // The small queue is these two, one after the other.
  SlotQueue fresh_;  ///< the correlation window
  SlotQueue small_;
  SlotQueue main_;
  GhostQueue ghosts_;
};

}  // namespace blobcache::page
