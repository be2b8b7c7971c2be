#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "net/impl/nbd_watched.h"

namespace blobcache::net {

/// What a loop drives. Called on the loop's thread alone.
class NbdLoopClient {
 public:
  virtual ~NbdLoopClient() = default;
  /// Does what can be done without waiting. Returns when it wants to be called at the latest,
  /// whatever comes.
  virtual absl::Time work(absl::Time now) = 0;
  /// What to wait for, alive until the next work().
  virtual void watch(std::vector<NbdWatched*>& watched) = 0;
  /// True once it is through for good: it is let go of.
  virtual bool finished() = 0;
  /// What is under way at `when` ends then, and what is just beginning at once.
  virtual void end_by(absl::Time when) = 0;
  /// The loop ends: nothing may be under way afterwards.
  virtual void stop() = 0;
};

/// The one thread that drives all NBD connections of an origin, by poll(2) and an eventfd.
///
/// Its users share it and may outlive its end: what they post then is not run. The queue of tasks
/// has no bound of its own; what is posted belongs to operations, and sessions bound theirs.
///
/// Thread-safe, but for stop(), which the owner calls once and not on the loop's thread.
class NbdLoop {
 public:
  using Task = absl::AnyInvocable<void()>;

  NbdLoop();
  ~NbdLoop() { stop(); }
  NbdLoop(const NbdLoop&) = delete;
  NbdLoop& operator=(const NbdLoop&) = delete;

  /// Runs `task` on the thread, after those posted before. False, and it is untouched, once the
  /// loop has ended. UNAVAILABLE is then what to tell.
  [[nodiscard]] bool post(Task& task);
  /// Posted like a task. Not taken once the loop has ended.
  [[nodiscard]] bool add(std::shared_ptr<NbdLoopClient> client);
  /// Tells all clients, and those that are still to come.
  void end_by(absl::Time when);
  /// Stops all clients and ends the thread.
  void stop();

 private:
  void run();
  [[nodiscard]] bool run_tasks();
  [[nodiscard]] absl::Time run_clients();
  void wait(absl::Time until);

  const base::UniqueFd wake_;
  absl::Mutex mutex_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::shared_ptr<NbdLoopClient>> clients_;  ///< the thread's
  std::vector<NbdWatched*> watched_;                     ///< the thread's
  absl::Time end_by_ = absl::InfiniteFuture();           ///< the thread's
  std::thread thread_;
};

}  // namespace blobcache::net
