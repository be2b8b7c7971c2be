#include "bench/hit_ratio/classic_s3_fifo.h"

#include <algorithm>

namespace blobcache::hit_ratio {

ClassicS3Fifo::ClassicS3Fifo(size_t slots, page::UseCounters& uses)
    : uses_(uses),
      links_(slots),
      identities_(slots),
      places_(slots),
      small_(links_),
      main_(links_) {}

void ClassicS3Fifo::push(Where where, uint32_t slot) {
  (where == Where::kSmall ? small_ : main_).push(slot);
  places_[slot] = where;
}

void ClassicS3Fifo::insert(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  uses_.set(slot, 0);
  push(ghosts_.take(identity) ? Where::kMain : Where::kSmall, slot);
}

void ClassicS3Fifo::restore(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  push(Where::kMain, slot);
}

void ClassicS3Fifo::erase(uint32_t slot) {
  if (places_[slot] == Where::kNowhere) return;
  (places_[slot] == Where::kSmall ? small_ : main_).remove(slot);
  places_[slot] = Where::kNowhere;
}

std::optional<uint32_t> ClassicS3Fifo::evict() {
  while (size() > 0) {
    const bool from_small = small_.size() >= std::max<size_t>(1, size() / 10) || main_.size() == 0;
    const uint32_t slot = from_small ? small_.oldest() : main_.oldest();
    const uint8_t uses = uses_.get(slot);
    erase(slot);
    if (from_small && uses > 1) {  // one use is the read that brought it
      uses_.set(slot, 0);
      push(Where::kMain, slot);
    } else if (!from_small && uses > 0) {
      uses_.set(slot, static_cast<uint8_t>(uses - 1));
      push(Where::kMain, slot);
    } else {
      if (from_small) ghosts_.remember(identities_[slot], std::max<size_t>(64, size()));
      return slot;
    }
  }
  return std::nullopt;
}

}  // namespace blobcache::hit_ratio
