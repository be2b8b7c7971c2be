#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::tree {

class AppendThreads;

/// A thread at the side of a large put: it writes what is appended while the put's own thread
/// hashes it. Hashing takes the longer of the two, so that thread neither waits nor is waited for
/// much.
///
/// For one thread at a time; destroying it ends the thread.
class AppendThread {
 public:
  ~AppendThread();
  AppendThread(const AppendThread&) = delete;
  AppendThread& operator=(const AppendThread&) = delete;

  /// Runs `theirs` on the thread and `ours` on the caller's, and returns when both have. What they
  /// wrote is seen by the caller. An exception of `ours` is passed on, after that too.
  void both(absl::FunctionRef<void()> theirs, absl::FunctionRef<void()> ours);

 private:
  friend class AppendThreads;

  explicit AppendThread(AppendThreads& threads);
  void run();
  void wait();

  AppendThreads& threads_;
  absl::Mutex mutex_;
  const absl::FunctionRef<void()>* job_ ABSL_GUARDED_BY(mutex_) = nullptr;  ///< until it is done
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

/// The bound on these threads: all puts together have at most so many, the first to ask. Puts that
/// get none do both by themselves, and are then enough to keep the processors busy. Thread-safe;
/// outlives the threads.
class AppendThreads {
 public:
  explicit AppendThreads(unsigned most) : most_(most) {}
  AppendThreads(const AppendThreads&) = delete;
  AppendThreads& operator=(const AppendThreads&) = delete;

  /// As many as let each have a processor beside its put's: half of the processors, at least one.
  [[nodiscard]] static unsigned most_for_this_machine();

  /// A new thread; none when there are enough, or when the system has no more.
  [[nodiscard]] std::unique_ptr<AppendThread> try_start();

  [[nodiscard]] unsigned running() const { return running_.load(std::memory_order_relaxed); }

 private:
  friend class AppendThread;

  const unsigned most_;
  std::atomic<unsigned> running_{0};
};

}  // namespace blobcache::tree
