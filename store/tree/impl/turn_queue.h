#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::tree {

/// Lets one after the other have a turn, in the order in which they came, and keeps no thread
/// waiting: who comes while it is nobody's turn has it at once, on his thread, everybody else when
/// those before him have said next(), on one of their threads.
///
/// As many wait as callers have operations under way; it is theirs to bound these.
///
/// Thread-safe. Held by shared_ptr, also while a turn's work runs, which may be the end of whoever
/// holds it.
class TurnQueue : public std::enable_shared_from_this<TurnQueue> {
 public:
  using Work = absl::AnyInvocable<void() &&>;

  /// Calls `work` when it has its turn, which lasts until next() is called, once, by the work or
  /// after it, on any thread.
  void run(Work work) ABSL_LOCKS_EXCLUDED(mutex_);
  void next() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// Where the turn stands between the thread that called its work and the one that says next().
  enum class Step : uint8_t {
    kWorks,
    kReturned,  ///< its work has returned, and goes on elsewhere
    kOver,
  };

  [[nodiscard]] bool take(Work& work) ABSL_LOCKS_EXCLUDED(mutex_);
  void run_turns() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<Work> waiting_ ABSL_GUARDED_BY(mutex_);
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<Step> step_{Step::kOver};
};

}  // namespace blobcache::tree
