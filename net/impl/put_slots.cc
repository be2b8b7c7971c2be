#include "net/impl/put_slots.h"

#include <algorithm>

namespace blobcache::net {

bool PutSlots::acquire(Waiter& waiter, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  if (free_ > 0) {
    --free_;
    return true;
  }
  waiting_.push_back({&waiter, now});
  return false;
}

bool PutSlots::withdraw(const Waiter& waiter) {
  absl::MutexLock lock(&mutex_);
  const auto place = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const Place& p) { return p.waiter == &waiter; });
  if (place == waiting_.end()) return false;
  waiting_.erase(place);
  return true;
}

void PutSlots::release() {
  Waiter* next = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (waiting_.empty()) {
      ++free_;
      return;
    }
    next = waiting_.front().waiter;
    waiting_.pop_front();
  }
  next->on_slot(true);
}

void PutSlots::expire(absl::Time now) {
  for (;;) {
    Waiter* late = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (waiting_.empty() || now - waiting_.front().since < kMaxWait) return;
      late = waiting_.front().waiter;
      waiting_.pop_front();
    }
    late->on_slot(false);
  }
}

}  // namespace blobcache::net
