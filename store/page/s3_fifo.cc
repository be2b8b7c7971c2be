#include "store/page/s3_fifo.h"

#include <algorithm>

namespace blobcache::page {
namespace {

/// A small cache remembers at least this many, to learn anything at all.
constexpr size_t kMinGhosts = 64;

}  // namespace

S3Fifo::S3Fifo(size_t slots, UseCounters& uses)
    : uses_(uses),
      links_(slots),
      identities_(slots),
      places_(slots),
      fresh_(links_),
      small_(links_),
      main_(links_) {}

SlotQueue& S3Fifo::queue(Where where) {
  if (where == Where::kMain) return main_;
  return where == Where::kFresh ? fresh_ : small_;
}

size_t S3Fifo::small_target() const { return std::max<size_t>(1, size() / 10); }

void S3Fifo::push(Where where, uint32_t slot) {
  queue(where).push(slot);
  places_[slot] = where;
}

void S3Fifo::remove(uint32_t slot) {
  queue(places_[slot]).remove(slot);
  places_[slot] = Where::kNowhere;
}

void S3Fifo::insert(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  uses_.set(slot, 0);
  if (ghosts_.take(identity)) {
    push(Where::kMain, slot);
    return;
  }
  push(Where::kFresh, slot);
  while (fresh_.size() > std::max<size_t>(1, small_target() / 2)) settle();
  // evict() keeps the small queue at its target, so this is only while the cache fills.
  while (small_size() > small_target() + 1) {
    const uint32_t older = pop_small();
    uses_.set(older, 0);
    push(Where::kMain, older);
  }
}

void S3Fifo::restore(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  push(Where::kMain, slot);
}

void S3Fifo::erase(uint32_t slot) {
  if (places_[slot] != Where::kNowhere) remove(slot);
}

void S3Fifo::settle() {
  const uint32_t slot = fresh_.oldest();
  remove(slot);
  uses_.set(slot, 0);
  push(Where::kSmall, slot);
}

uint32_t S3Fifo::pop_small() {
  if (small_.size() == 0) settle();
  const uint32_t slot = small_.oldest();
  remove(slot);
  return slot;
}

std::optional<uint32_t> S3Fifo::evict() {
  if (small_size() >= small_target() || main_.size() == 0) {
    if (const auto victim = evict_small()) return victim;
  }
  if (const auto victim = evict_main()) return victim;
  return evict_small();
}

std::optional<uint32_t> S3Fifo::evict_small() {
  while (small_size() > 0) {
    const uint32_t slot = pop_small();
    if (uses_.get(slot) > 0) {
      uses_.set(slot, 0);
      push(Where::kMain, slot);
      continue;
    }
    ghosts_.remember(identities_[slot], std::max(kMinGhosts, size()));
    return slot;
  }
  return std::nullopt;
}

std::optional<uint32_t> S3Fifo::evict_main() {
  // Readers may use slots as fast as this loop takes uses away; four rounds are enough to be fair.
  for (size_t left = main_.size() * (UseCounters::kMax + 1); left > 0; --left) {
    const uint32_t slot = main_.oldest();
    remove(slot);
    const uint8_t uses = uses_.get(slot);
    if (uses == 0 || left == 1) return slot;
    uses_.set(slot, static_cast<uint8_t>(uses - 1));
    push(Where::kMain, slot);
  }
  return std::nullopt;
}

}  // namespace blobcache::page
