#include "store/tree/impl/turn_queue.h"

#include <utility>

namespace blobcache::tree {

void TurnQueue::run(Work work) {
  {
    const absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(work));
    if (busy_) return;
    busy_ = true;
  }
  run_turns();
}

bool TurnQueue::take(Work& work) {
  const absl::MutexLock lock(&mutex_);
  busy_ = !waiting_.empty();
  if (!busy_) return false;
  work = std::move(waiting_.front());
  waiting_.pop_front();
  return true;
}

/// A loop, so that turns that are over at once do not nest.
void TurnQueue::run_turns() {
  const std::shared_ptr<TurnQueue> self = shared_from_this();
  for (Work work; take(work);) {
    step_.store(Step::kWorks);
    std::move(work)();
    work = nullptr;
    if (step_.exchange(Step::kReturned) != Step::kOver) return;
  }
}

void TurnQueue::next() {
  if (step_.exchange(Step::kOver) == Step::kReturned) run_turns();
}

}  // namespace blobcache::tree
