#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace blobcache::net {

/// Threads for what may hang in the kernel and cannot be ended there: calls of a file system that
/// another machine serves. They are begun when they are first needed. Nobody joins them: one that
/// hangs outlives this object, with its job and what that holds.
///
/// Thread-safe.
class DirThreads {
 public:
  /// As many may wait for a thread.
  static constexpr size_t kMostWaiting = size_t{1} << 14;

  /// Something to be done. It owns, or shares, whatever it touches.
  class Job {
   public:
    virtual ~Job() = default;
    /// On one of the threads; may take for ever. Not called after give_up().
    virtual void work() = 0;

   private:
    friend class DirThreads;
    enum class State : uint8_t { kNew, kWaiting, kRunning, kOver };
    State state_ = State::kNew;  ///< guarded by the pool's mutex
    bool given_up_ = false;      ///< the same
  };

  /// At most `threads` of them (not 0), called `name` (15 bytes at most).
  DirThreads(std::string name, size_t threads);
  ~DirThreads() { end(absl::ZeroDuration()); }
  DirThreads(const DirThreads&) = delete;
  DirThreads& operator=(const DirThreads&) = delete;

  /// False, and nothing comes of it, after end(), when too much waits, and when all threads have
  /// been at jobs that were given up for so long that this one would only wait for them, too.
  [[nodiscard]] bool start(const std::shared_ptr<Job>& job);
  /// As start(), for what must be done whoever hangs; false after end() alone.
  [[nodiscard]] bool start_always(const std::shared_ptr<Job>& job);
  /// Nobody waits for it any more. Does not wait for it.
  void give_up(const std::shared_ptr<Job>& job);

  /// Forgets what is waiting, begins nothing any more, and waits for the threads so long. Must not
  /// be called by one of them. Idempotent.
  void end(absl::Duration grace);

 private:
  /// Shared with the threads.
  struct Shared {
    explicit Shared(std::string thread_name) : name(std::move(thread_name)) {}
    const std::string name;
    absl::Mutex mutex;
    std::deque<std::shared_ptr<Job>> waiting ABSL_GUARDED_BY(mutex);
    size_t idle ABSL_GUARDED_BY(mutex) = 0;
    size_t alive ABSL_GUARDED_BY(mutex) = 0;
    size_t stuck ABSL_GUARDED_BY(mutex) = 0;  ///< at jobs that were given up
    bool ended ABSL_GUARDED_BY(mutex) = false;
  };

  static void run(const std::shared_ptr<Shared>& shared);
  void add(const std::shared_ptr<Job>& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex);

  const size_t most_threads_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace blobcache::net
