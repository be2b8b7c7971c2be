#pragma once

#include <cstddef>
#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace blobcache::net {

/// Bounds how many puts are under way, and with them the memory of their writers. Further puts wait
/// in order, unread, so that flow control holds their senders back; one that has waited for
/// kMaxWait is told so.
///
/// Thread-safe. Waiters are called with no lock held.
class PutSlots {
 public:
  static constexpr absl::Duration kMaxWait = absl::Seconds(30);

  class Waiter {
   public:
    virtual ~Waiter() = default;
    /// Exactly once, unless withdraw() came first: a slot is the waiter's now, or (false) it waited
    /// in vain.
    virtual void on_slot(bool granted) = 0;
  };

  explicit PutSlots(size_t slots) : free_(slots) {}

  /// True: a slot is the caller's at once. False: on_slot() will tell.
  [[nodiscard]] bool acquire(Waiter& waiter, absl::Time now);

  /// True: the waiter was still waiting and will not be called. False: it has been or is being
  /// called.
  [[nodiscard]] bool withdraw(const Waiter& waiter);

  /// Gives a slot back, to whoever has waited longest.
  void release();

  /// Turns away those who have waited too long. To be called about once a second.
  void expire(absl::Time now);

 private:
  struct Place {
    Waiter* waiter;
    absl::Time since;
  };

  absl::Mutex mutex_;
  size_t free_ ABSL_GUARDED_BY(mutex_);
  std::deque<Place> waiting_ ABSL_GUARDED_BY(mutex_);  ///< bounded by the door's number of streams
};

}  // namespace blobcache::net
