#include "store/page/s3_tiny_lfu.h"

#include <algorithm>
#include <utility>

namespace blobcache::page {
namespace {

/// A small cache remembers at least this many, to learn anything at all.
constexpr size_t kMinRemembered = 64;
/// Uses for each slot in use after which the sketch halves what it has counted.
constexpr size_t kSampleUses = 10;
/// The correlation window is half the window, and no more than this share of the slots in use.
constexpr double kMaxFresh = 0.05;

}  // namespace

S3TinyLfu::S3TinyLfu(size_t slots, UseCounters& uses, const Tuning& tuning)
    : tuning_(tuning),
      uses_(uses),
      links_(slots),
      identities_(slots),
      places_(slots),
      fresh_(links_),
      window_(links_),
      main_(links_),
      sketch_(kMinRemembered),
      window_share_(tuning.min_window) {}

void S3TinyLfu::grow_sketch() {
  if (size() < sketch_.capacity()) return;
  FrequencySketch larger(2 * sketch_.capacity());
  for (const SlotQueue* queue : {&fresh_, &window_, &main_}) {
    for (uint32_t slot = queue->oldest(); slot != SlotQueue::kNone; slot = queue->newer(slot)) {
      larger.take_over(identities_[slot], sketch_.estimate(identities_[slot]));
    }
  }
  sketch_ = std::move(larger);
}

SlotQueue& S3TinyLfu::queue(Where where) {
  if (where == Where::kMain) return main_;
  return where == Where::kFresh ? fresh_ : window_;
}

size_t S3TinyLfu::slots(double share) const {
  return std::max<size_t>(1, static_cast<size_t>(share * static_cast<double>(size())));
}

void S3TinyLfu::push(Where where, uint32_t slot) {
  queue(where).push(slot);
  places_[slot] = where;
}

void S3TinyLfu::remove(uint32_t slot) {
  queue(places_[slot]).remove(slot);
  places_[slot] = Where::kNowhere;
}

void S3TinyLfu::widen(double slots) {
  const double share = slots / static_cast<double>(std::max<size_t>(1, size()));
  window_share_ = std::clamp(window_share_ + share, tuning_.min_window, tuning_.max_window);
}

bool S3TinyLfu::returns(uint64_t identity) {
  if (const auto after = from_window_.take(identity)) {
    if (*after <= slots(tuning_.margin)) widen(tuning_.step);
    return true;
  }
  if (from_main_.take(identity)) widen(-tuning_.step);
  return false;
}

void S3TinyLfu::insert(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  uses_.set(slot, 0);
  grow_sketch();
  sketch_.set_sample(kSampleUses * std::max(kMinRemembered, size()));
  sketch_.add(identity, 1);
  if (returns(identity)) {
    push(Where::kMain, slot);
    return;
  }
  push(Where::kFresh, slot);
  while (fresh_.size() > slots(std::min(kMaxFresh, window_share_ / 2))) settle();
  // evict() keeps the window at its size, so this is only while the cache fills, or the window
  // shrinks.
  while (window_size() > slots(window_share_) + 1) {
    const uint32_t older = pop_window();
    sketch_.add(identities_[older], uses_.get(older));
    uses_.set(older, 0);
    push(Where::kMain, older);
  }
}

void S3TinyLfu::restore(uint32_t slot, uint64_t identity) {
  identities_[slot] = identity;
  push(Where::kMain, slot);
}

void S3TinyLfu::erase(uint32_t slot) {
  if (places_[slot] != Where::kNowhere) remove(slot);
}

void S3TinyLfu::settle() {
  const uint32_t slot = fresh_.oldest();
  remove(slot);
  uses_.set(slot, 0);
  push(Where::kWindow, slot);
}

uint32_t S3TinyLfu::pop_window() {
  if (window_.size() == 0) settle();
  const uint32_t slot = window_.oldest();
  remove(slot);
  return slot;
}

std::optional<uint32_t> S3TinyLfu::evict() {
  if (main_.size() == 0 || (window_size() > 0 && window_size() >= slots(window_share_))) {
    return evict_window();
  }
  return give_up_main(next_of_main());
}

std::optional<uint32_t> S3TinyLfu::evict_window() {
  if (window_size() == 0) return std::nullopt;
  const uint32_t candidate = pop_window();
  const uint64_t identity = identities_[candidate];
  const uint8_t uses = uses_.get(candidate);
  sketch_.add(identity, uses);
  if (main_.size() > 0) {
    const uint32_t victim = next_of_main();
    if ((tuning_.used_is_proven && uses > 0) ||
        sketch_.estimate(identity) > sketch_.estimate(identities_[victim])) {
      uses_.set(candidate, 0);
      push(Where::kMain, candidate);
      return give_up_main(victim);
    }
  }
  if (tuning_.remembered > 0) {
    from_window_.remember(identity, std::max(kMinRemembered, slots(tuning_.remembered)));
  }
  return candidate;
}

uint32_t S3TinyLfu::next_of_main() {
  // Readers may use slots as fast as this loop takes uses away; four rounds are enough to be fair.
  for (size_t left = main_.size() * (UseCounters::kMax + 1);; --left) {
    const uint32_t slot = main_.oldest();
    const uint8_t uses = uses_.get(slot);
    if (uses == 0 || left == 1) return slot;
    sketch_.add(identities_[slot], 1);
    uses_.set(slot, static_cast<uint8_t>(uses - 1));
    main_.remove(slot);
    main_.push(slot);
  }
}

uint32_t S3TinyLfu::give_up_main(uint32_t slot) {
  if (tuning_.margin > 0) from_main_.remember(identities_[slot], slots(tuning_.margin));
  remove(slot);
  return slot;
}

}  // namespace blobcache::page
