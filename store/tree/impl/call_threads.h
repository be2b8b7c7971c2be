#pragma once

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::tree {

/// The threads on which calls of one origin wait for the network, in the order in which they came:
/// a few, so that one that takes long holds nobody up, begun when they are first needed.
/// Thread-safe.
class CallThreads {
 public:
  static constexpr size_t kThreads = 8;
  /// As many may wait for a thread; a door's clients, who each wait for an answer, seldom come to
  /// that. Beyond it they are told that it is too much.
  static constexpr size_t kMostWaiting = 1024;

  CallThreads() = default;
  /// Runs what is waiting: of an origin that was stopped each call ends at once.
  ~CallThreads();
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;

  /// False, and `call` is gone, when too much is waiting.
  [[nodiscard]] bool run(absl::AnyInvocable<void()> call) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void work() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
