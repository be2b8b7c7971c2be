#pragma once

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::volume {

/// Threads for what a volume cannot do on its caller's: what reads the disk, syncs or punches.
/// Several volumes share them. A job may block on the disk and on another volume's sync, never on a
/// remote: what waits for a base is queued when its bytes are there.
///
/// The queue has no bound of its own: a job is an operation that a door has under way, or the one
/// checkpoint of a volume, and the doors bound theirs.
///
/// Thread-safe. Destroying it does what is queued first; the volumes must be gone by then.
class Workers {
 public:
  static constexpr size_t kDefaultThreads = 4;

  explicit Workers(size_t threads = kDefaultThreads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void run(absl::AnyInvocable<void()> job);

 private:
  void work();

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace blobcache::volume
