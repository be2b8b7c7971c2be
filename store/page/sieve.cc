#include "store/page/sieve.h"

namespace blobcache::page {

void Sieve::insert(uint32_t slot, uint64_t /*identity*/) {
  uses_.set(slot, 0);
  states_[slot] = State::kNew;
  queue_.push(slot);
}

void Sieve::restore(uint32_t slot, uint64_t /*identity*/) {
  states_[slot] = State::kSeen;
  queue_.push(slot);
}

void Sieve::erase(uint32_t slot) {
  if (states_[slot] != State::kOut) take(slot);
}

void Sieve::take(uint32_t slot) {
  if (hand_ == slot) hand_ = queue_.newer(slot);
  queue_.remove(slot);
  states_[slot] = State::kOut;
}

std::optional<uint32_t> Sieve::evict() {
  // Two rounds are enough: readers may use slots as fast as the hand goes round.
  for (size_t left = 2 * queue_.size(); left > 0; --left) {
    if (hand_ == SlotQueue::kNone) hand_ = queue_.oldest();
    const uint32_t slot = hand_;
    const uint8_t first = states_[slot] == State::kNew ? 1 : 0;
    if (uses_.get(slot) <= first || left == 1) {
      take(slot);
      return slot;
    }
    uses_.set(slot, 0);
    states_[slot] = State::kSeen;
    hand_ = queue_.newer(slot);
  }
  return std::nullopt;
}

}  // namespace blobcache::page
