#include "bench/hit_ratio/references.h"

#include <algorithm>
#include <array>
#include <list>
#include <queue>
#include <utility>
#include <vector>

namespace blobcache::hit_ratio {
namespace {

/// Lists of extents, newest first, that count their bytes. An extent is in one of them or in none.
class Lists {
 public:
  enum Name : uint8_t { kNowhere, kFirst, kSecond, kFirstGhost, kSecondGhost, kCount };

  explicit Lists(const std::vector<uint32_t>& sizes) : sizes_(sizes), places_(sizes.size()) {}

  [[nodiscard]] Name where(uint32_t extent) const { return places_[extent].list; }
  [[nodiscard]] uint64_t bytes(Name list) const { return bytes_[list]; }
  [[nodiscard]] uint32_t oldest(Name list) const { return lists_[list].back(); }

  /// To the front of another list, or out of all of them.
  void move(uint32_t extent, Name to) {
    Place& place = places_[extent];
    if (place.list != kNowhere) {
      lists_[place.list].erase(place.at);
      bytes_[place.list] -= sizes_[extent];
    }
    place.list = to;
    if (to == kNowhere) return;
    place.at = lists_[to].insert(lists_[to].begin(), extent);
    bytes_[to] += sizes_[extent];
  }

 private:
  struct Place {
    Name list = kNowhere;
    std::list<uint32_t>::iterator at;
  };

  const std::vector<uint32_t>& sizes_;
  std::array<std::list<uint32_t>, kCount> lists_;
  std::array<uint64_t, kCount> bytes_{};
  std::vector<Place> places_;
};

class Arc {
 public:
  Arc(const std::vector<uint32_t>& sizes, uint64_t capacity)
      : sizes_(sizes), capacity_(capacity), lists_(sizes) {}

  /// Whether it was a hit.
  bool read(uint32_t extent) {
    const uint64_t size = sizes_[extent];
    const Lists::Name was = lists_.where(extent);
    if (was == Lists::kFirst || was == Lists::kSecond) {
      lists_.move(extent, Lists::kSecond);
      return true;
    }
    if (size > capacity_) return false;
    const uint64_t first_ghost = lists_.bytes(Lists::kFirstGhost);
    const uint64_t second_ghost = lists_.bytes(Lists::kSecondGhost);
    if (was == Lists::kFirstGhost) {
      target_ = std::min(capacity_, target_ + std::max(size, size * second_ghost / first_ghost));
    } else if (was == Lists::kSecondGhost) {
      target_ -= std::min(target_, std::max(size, size * first_ghost / second_ghost));
    }
    lists_.move(extent, Lists::kNowhere);
    make_room(size, was == Lists::kSecondGhost);
    lists_.move(extent, was == Lists::kNowhere ? Lists::kFirst : Lists::kSecond);
    trim();
    return false;
  }

 private:
  void make_room(uint64_t size, bool from_second_ghost) {
    while (lists_.bytes(Lists::kFirst) + lists_.bytes(Lists::kSecond) + size > capacity_) {
      const uint64_t first = lists_.bytes(Lists::kFirst);
      const bool take_first =
          lists_.bytes(Lists::kSecond) == 0 ||
          (first > 0 && (first > target_ || (from_second_ghost && first == target_)));
      const Lists::Name from = take_first ? Lists::kFirst : Lists::kSecond;
      lists_.move(lists_.oldest(from), take_first ? Lists::kFirstGhost : Lists::kSecondGhost);
    }
  }

  /// The first list and its ghosts hold a cache's worth; all four hold two.
  void trim() {
    while (lists_.bytes(Lists::kFirst) + lists_.bytes(Lists::kFirstGhost) > capacity_ &&
           lists_.bytes(Lists::kFirstGhost) > 0) {
      lists_.move(lists_.oldest(Lists::kFirstGhost), Lists::kNowhere);
    }
    while (lists_.bytes(Lists::kFirst) + lists_.bytes(Lists::kSecond) +
                   lists_.bytes(Lists::kFirstGhost) + lists_.bytes(Lists::kSecondGhost) >
               2 * capacity_ &&
           lists_.bytes(Lists::kSecondGhost) > 0) {
      lists_.move(lists_.oldest(Lists::kSecondGhost), Lists::kNowhere);
    }
  }

  const std::vector<uint32_t>& sizes_;
  const uint64_t capacity_;
  uint64_t target_ = 0;  ///< bytes that the first list should have
  Lists lists_;
};

/// For each request the number of the next one of the same extent; requests.size() for none.
std::vector<uint32_t> next_uses(const Trace& trace) {
  const auto count = static_cast<uint32_t>(trace.requests.size());
  std::vector<uint32_t> next(count);
  std::vector<uint32_t> seen(trace.sizes.size(), count);
  for (uint32_t at = count; at-- > 0;) {
    next[at] = std::exchange(seen[trace.requests[at].extent], at);
  }
  return next;
}

}  // namespace

Result replay_lru(const Trace& trace, uint64_t capacity_bytes) {
  Lists lists(trace.sizes);
  Result result;
  for (const Request& request : trace.requests) {
    const uint32_t size = trace.sizes[request.extent];
    const bool hit = lists.where(request.extent) == Lists::kFirst;
    result.count(size, hit);
    if (size > capacity_bytes) continue;
    while (!hit && lists.bytes(Lists::kFirst) + size > capacity_bytes) {
      lists.move(lists.oldest(Lists::kFirst), Lists::kNowhere);
    }
    lists.move(request.extent, Lists::kFirst);
  }
  return result;
}

Result replay_arc(const Trace& trace, uint64_t capacity_bytes) {
  Arc arc(trace.sizes, capacity_bytes);
  Result result;
  for (const Request& request : trace.requests) {
    result.count(trace.sizes[request.extent], arc.read(request.extent));
    if (request.touches > 1) (void)arc.read(request.extent);
  }
  return result;
}

Result replay_belady(const Trace& trace, uint64_t capacity_bytes) {
  const std::vector<uint32_t> next = next_uses(trace);
  constexpr uint32_t kOut = 0;  // no request is the next use of one before it with number 0
  std::vector<uint32_t> next_of(trace.sizes.size(), kOut);
  std::priority_queue<std::pair<uint32_t, uint32_t>> farthest;  // next use, extent; some outdated
  uint64_t used = 0;
  Result result;
  for (uint32_t at = 0; at < next.size(); ++at) {
    const uint32_t extent = trace.requests[at].extent;
    const bool hit = next_of[extent] != kOut;
    result.count(trace.sizes[extent], hit);
    if (!hit) used += trace.sizes[extent];
    next_of[extent] = next[at];
    farthest.emplace(next[at], extent);
    while (used > capacity_bytes) {
      const auto [use, victim] = farthest.top();
      farthest.pop();
      if (next_of[victim] != use) continue;
      next_of[victim] = kOut;
      used -= trace.sizes[victim];
    }
  }
  return result;
}

}  // namespace blobcache::hit_ratio
