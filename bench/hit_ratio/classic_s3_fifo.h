#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "store/page/eviction.h"
#include "store/page/ghost_queue.h"
#include "store/page/slot_queue.h"

namespace blobcache::hit_ratio {

/// S3-FIFO as its authors have it (SOSP 2023), for comparison with the store's: without a
/// correlation window, and with everything in the small queue until the cache is full.
class ClassicS3Fifo final : public page::EvictionPolicy {
 public:
  ClassicS3Fifo(size_t slots, page::UseCounters& uses);

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return small_.size() + main_.size(); }

 private:
  enum class Where : uint8_t { kNowhere, kSmall, kMain };

  void push(Where where, uint32_t slot);

  page::UseCounters& uses_;
  page::ZeroVector<page::SlotLink> links_;
  std::vector<uint64_t> identities_;
  std::vector<Where> places_;
  page::SlotQueue small_;
  page::SlotQueue main_;
  page::GhostQueue ghosts_;
};

}  // namespace blobcache::hit_ratio
