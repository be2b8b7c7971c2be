#include "store/page/s3_fifo.h"

#include <fmt/format.h>

#include <algorithm>

namespace blobcache::page {

absl::StatusOr<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                                     size_t slots,
                                                                     UseCounters& uses) {
  if (name == "s3-fifo") return std::make_unique<S3Fifo>(slots, uses);
  return absl::InvalidArgumentError(
      fmt::format("unknown eviction policy \"{}\"; known: s3-fifo", name));
}

S3Fifo::S3Fifo(size_t slots, UseCounters& uses) : uses_(uses), entries_(slots) {}

void S3Fifo::push(Where where, uint32_t slot) {
  Queue& to = queue(where);
  Entry& entry = entries_[slot];
  entry.where = where;
  entry.newer = kNone;
  entry.older = to.newest;
  if (to.newest != kNone) entries_[to.newest].newer = slot;
  to.newest = slot;
  if (to.oldest == kNone) to.oldest = slot;
  ++to.size;
}

void S3Fifo::unlink(uint32_t slot) {
  Entry& entry = entries_[slot];
  Queue& from = queue(entry.where);
  if (entry.newer != kNone) {
    entries_[entry.newer].older = entry.older;
  } else {
    from.newest = entry.older;
  }
  if (entry.older != kNone) {
    entries_[entry.older].newer = entry.newer;
  } else {
    from.oldest = entry.newer;
  }
  --from.size;
  entry.where = Where::kNowhere;
}

void S3Fifo::insert(uint32_t slot, uint64_t identity) {
  entries_[slot].identity = identity;
  uses_.set(slot, 0);
  push(take_memory_of(identity) ? Where::kMain : Where::kSmall, slot);
}

void S3Fifo::restore(uint32_t slot, uint64_t identity) {
  entries_[slot].identity = identity;
  push(Where::kMain, slot);
}

void S3Fifo::erase(uint32_t slot) {
  if (entries_[slot].where != Where::kNowhere) unlink(slot);
}

std::optional<uint32_t> S3Fifo::evict() {
  // The small queue's share is a tenth of what is in, and at least one.
  const size_t small_target = std::max<size_t>(1, size() / 10);
  if (small_.size >= small_target || main_.size == 0) {
    if (const auto victim = evict_small()) return victim;
  }
  if (const auto victim = evict_main()) return victim;
  return evict_small();
}

std::optional<uint32_t> S3Fifo::evict_small() {
  while (small_.size > 0) {
    const uint32_t slot = small_.oldest;
    unlink(slot);
    // More than one use since it came in: it belongs to the main queue. (The fill itself is not a
    // use.)
    if (uses_.get(slot) > 1) {
      uses_.set(slot, 0);
      push(Where::kMain, slot);
      continue;
    }
    remember(entries_[slot].identity);
    return slot;
  }
  return std::nullopt;
}

std::optional<uint32_t> S3Fifo::evict_main() {
  // Readers may use slots as fast as this loop takes uses away; four rounds are enough to be fair.
  for (size_t left = main_.size * (UseCounters::kMax + 1); main_.size > 0; --left) {
    const uint32_t slot = main_.oldest;
    unlink(slot);
    const uint8_t uses = uses_.get(slot);
    if (uses == 0 || left <= 1) return slot;
    uses_.set(slot, static_cast<uint8_t>(uses - 1));
    push(Where::kMain, slot);
  }
  return std::nullopt;
}

void S3Fifo::remember(uint64_t identity) {
  // As many ghosts as the main queue has entries, and a floor so that a small cache learns too.
  const size_t limit = std::max<size_t>(64, main_.size + small_.size);
  ghost_[identity] = ghost_next_;
  ghost_order_.emplace_back(identity, ghost_next_++);
  while (ghost_order_.size() > limit) {
    const auto [oldest, number] = ghost_order_.front();
    ghost_order_.pop_front();
    const auto at = ghost_.find(oldest);
    if (at != ghost_.end() && at->second == number) ghost_.erase(at);
  }
}

bool S3Fifo::take_memory_of(uint64_t identity) { return ghost_.erase(identity) > 0; }

}  // namespace blobcache::page
