#pragma once

#include <cstdint>
#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::page {

/// Lets reads that miss in only while there are frames for all that they need, first come first
/// served. A read takes its places at once and holds them until it is answered, so reads never wait
/// for frames that other waiting reads hold: no deadlock however small the memory, and disk queues
/// of bounded length.
///
/// The line itself is as long as the doors let it grow: each bounds its requests in flight.
/// Thread-safe.
class Admission {
 public:
  /// `places` extents may be held by reads at once; at least the most that one read needs.
  explicit Admission(uint64_t places) : places_(places), free_(places) {}

  /// Calls `start` when `places` are free: now on this thread, or later on a thread that leaves.
  void enter(uint64_t places, absl::AnyInvocable<void()> start) {
    {
      absl::MutexLock lock(&mutex_);
      line_.emplace_back(places, std::move(start));
    }
    let_in();
  }

  void leave(uint64_t places) {
    {
      absl::MutexLock lock(&mutex_);
      free_ += places;
    }
    let_in();
  }

  /// Nobody is in and nobody waits.
  [[nodiscard]] bool idle() {
    absl::MutexLock lock(&mutex_);
    return free_ == places_ && line_.empty() && !letting_in_;
  }

 private:
  /// Starts who is next while there are places. A read that starts may leave at once and come back
  /// here; the thread that is letting in already then goes on for it, so the stack does not grow
  /// with the line.
  void let_in() {
    absl::MutexLock lock(&mutex_);
    if (letting_in_) return;
    letting_in_ = true;
    while (!line_.empty() && line_.front().first <= free_) {
      free_ -= line_.front().first;
      absl::AnyInvocable<void()> start = std::move(line_.front().second);
      line_.pop_front();
      mutex_.Unlock();
      start();
      start = nullptr;
      mutex_.Lock();
    }
    letting_in_ = false;
  }

  const uint64_t places_;
  absl::Mutex mutex_;
  bool letting_in_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t free_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<uint64_t, absl::AnyInvocable<void()>>> line_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
