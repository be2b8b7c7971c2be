#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "store/page/eviction.h"

namespace blobcache::page {

/// S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO queues are all you need for cache eviction", SOSP
/// 2023): a small FIFO that takes newcomers, a main FIFO for what was used again, and a ghost FIFO
/// that remembers the identities of what left the small one unused. A scan passes through the small
/// queue (a tenth of the slots) and leaves the main one alone.
///
/// Not thread-safe; the owner guards it. Memory: 16 bytes a slot and about 20 a remembered
/// identity.
class S3Fifo final : public EvictionPolicy {
 public:
  S3Fifo(size_t slots, UseCounters& uses);

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return small_.size + main_.size; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  enum class Where : uint8_t { kNowhere, kSmall, kMain };

  struct Entry {
    uint64_t identity = 0;
    uint32_t newer = kNone;
    uint32_t older = kNone;
    Where where = Where::kNowhere;
  };
  /// A FIFO threaded through entries_.
  struct Queue {
    uint32_t newest = kNone;
    uint32_t oldest = kNone;
    size_t size = 0;
  };

  [[nodiscard]] Queue& queue(Where where) { return where == Where::kSmall ? small_ : main_; }
  void push(Where where, uint32_t slot);
  void unlink(uint32_t slot);
  [[nodiscard]] std::optional<uint32_t> evict_small();
  [[nodiscard]] std::optional<uint32_t> evict_main();
  void remember(uint64_t identity);
  [[nodiscard]] bool take_memory_of(uint64_t identity);

  UseCounters& uses_;
  std::vector<Entry> entries_;
  Queue small_;
  Queue main_;
  // The ghost queue: identities in order, each with the number it was remembered under, so that one
  // that was forgotten and remembered again is not dropped with its older place.
  std::deque<std::pair<uint64_t, uint64_t>> ghost_order_;
  absl::flat_hash_map<uint64_t, uint64_t> ghost_;
  uint64_t ghost_next_ = 0;
};

}  // namespace blobcache::page
