#pragma once

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::net {

/// A few threads for work that may block, so that gRPC's own never do. Threads start when there is
/// work for them, up to the bound, and stay. The queue is bounded by its users: a stream has at
/// most one task in it.
///
/// Thread-safe. The destructor finishes what was queued.
class WorkerPool {
 public:
  /// `name`, of at most 15 characters, is what the threads are called; it must live as long as the
  /// pool.
  WorkerPool(size_t max_threads, const char* name) : max_threads_(max_threads), name_(name) {}
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void run(absl::AnyInvocable<void()> task);

 private:
  void work();

  const size_t max_threads_;
  const char* const name_;
  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::net
