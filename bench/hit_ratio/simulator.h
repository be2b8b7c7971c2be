#pragma once

#include <cstdint>
#include <string_view>

#include "bench/hit_ratio/trace.h"

namespace blobcache::page {
class EvictionPolicy;
class UseCounters;
}  // namespace blobcache::page

namespace blobcache::hit_ratio {

struct Result {
  uint64_t requests = 0;
  uint64_t hits = 0;
  uint64_t bytes = 0;
  uint64_t hit_bytes = 0;

  [[nodiscard]] double hit_ratio() const { return share(hits, requests); }
  [[nodiscard]] double byte_hit_ratio() const { return share(hit_bytes, bytes); }
  void count(uint32_t size_bytes, bool hit) {
    ++requests;
    bytes += size_bytes;
    if (!hit) return;
    ++hits;
    hit_bytes += size_bytes;
  }

 private:
  [[nodiscard]] static double share(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  }
};

/// How many slots the store would have for this many bytes: eight for each full extent.
[[nodiscard]] size_t slots_for(const Trace& trace, uint64_t capacity_bytes);

/// Replays `trace` as the store's tiers would: a miss evicts until there is room, puts the extent
/// into a slot and uses it; each further touch is a use. `uses` has slots_for() counters and is the
/// policy's. An extent larger than the cache passes it by.
[[nodiscard]] Result replay(const Trace& trace, uint64_t capacity_bytes,
                            page::EvictionPolicy& policy, page::UseCounters& uses);

}  // namespace blobcache::hit_ratio
