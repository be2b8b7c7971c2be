#include "fusefs/impl/hole_search.h"

#include <utility>

namespace blobcache::fusefs {

HoleSearch::HoleSearch(Stretch::Kind wanted, Range range, Ask ask, Found found)
    : wanted_(wanted), range_(range), ask_(std::move(ask)), found_(std::move(found)) {}

void HoleSearch::start(Stretch::Kind wanted, Range range, Ask ask, Found found) {
  // Not make_shared, which cannot see the constructor.
  const std::shared_ptr<HoleSearch> search(
      new HoleSearch(wanted, range, std::move(ask), std::move(found)));
  search->run();
}

void HoleSearch::run() {
  while (true) {
    step_.store(Step::kAsked);
    ask_(range_.begin, range_.end - range_.begin,
         [self = shared_from_this()](absl::StatusOr<std::vector<Stretch>> stretches) {
           self->answer_ = std::move(stretches);
           if (self->step_.exchange(Step::kAnswered) != Step::kReturned) return;
           if (!self->take_answer()) self->run();
         });
    if (step_.exchange(Step::kReturned) != Step::kAnswered || take_answer()) return;
  }
}

bool HoleSearch::take_answer() {
  const absl::StatusOr<std::vector<Stretch>> stretches = std::move(answer_);
  if (!stretches.ok()) {
    found_(stretches.status());
    return true;
  }
  const uint64_t before = range_.begin;
  for (const Stretch& stretch : *stretches) {
    if (stretch.is_hole == (wanted_ == Stretch::Kind::kHole)) {
      found_(range_.begin);
      return true;
    }
    range_.begin += stretch.length;
    if (range_.begin < range_.end) continue;
    if (wanted_ == Stretch::Kind::kHole) {
      found_(range_.end);
    } else {
      found_(absl::NotFoundError("no data from here on"));
    }
    return true;
  }
  if (range_.begin != before) return false;
  found_(absl::InternalError("a map that tells nothing"));
  return true;
}

}  // namespace blobcache::fusefs
