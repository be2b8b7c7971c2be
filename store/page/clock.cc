#include "store/page/clock.h"

#include <utility>

namespace blobcache::page {

void Clock::insert(uint32_t slot, uint64_t /*identity*/) {
  uses_.set(slot, 0);
  states_[slot] = State::kNew;
  queue_.push(slot);
}

void Clock::restore(uint32_t slot, uint64_t /*identity*/) {
  states_[slot] = State::kSeen;
  queue_.push(slot);
}

void Clock::erase(uint32_t slot) {
  if (std::exchange(states_[slot], State::kOut) != State::kOut) queue_.remove(slot);
}

std::optional<uint32_t> Clock::evict() {
  // Two rounds are enough: readers may use slots as fast as the hand goes round.
  for (size_t left = 2 * queue_.size(); left > 0; --left) {
    const uint32_t slot = queue_.oldest();
    queue_.remove(slot);
    const uint8_t first = states_[slot] == State::kNew ? 1 : 0;
    if (uses_.get(slot) <= first || left == 1) {
      states_[slot] = State::kOut;
      return slot;
    }
    uses_.set(slot, 0);
    states_[slot] = State::kSeen;
    queue_.push(slot);
  }
  return std::nullopt;
}

}  // namespace blobcache::page
