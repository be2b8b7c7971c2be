#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fusefs/impl/fuse.h"
#include "fusefs/impl/threads.h"

namespace blobcache::fusefs {

/// Through which libfuse's workers read a mount's requests and write its answers. While it is
/// closed no worker takes a request, and the kernel keeps what comes: a request that was taken is
/// answered, and one that was not is left for whoever reads the device next. libfuse's own way to
/// end its loop gives no such promise: what a worker has read when it is told to go is lost.
///
/// It also knows how the kernel and libfuse agreed to talk, which the kernel asks for once in the
/// life of a mount, so that another process can be told.
///
/// A worker is idle (it waits here, or its thread is about to end), reads, or works on a request. A
/// worker says that it reads before it looks whether the gate is closed; who closes it does so
/// before he looks at the workers. So one of the two sees the other, and a worker that waits for
/// the kernel is interrupted by a signal, again and again until it has noticed.
///
/// Thread-safe; must outlive the workers.
class RequestGate {
 public:
  RequestGate() = default;
  ~RequestGate() = default;
  RequestGate(const RequestGate&) = delete;
  RequestGate& operator=(const RequestGate&) = delete;

  /// read(2) for a worker, and writev(2) for whoever answers.
  [[nodiscard]] ssize_t read(int device, void* into, size_t size);
  [[nodiscard]] ssize_t write(int device, const iovec* pieces, int count);

  /// Lets no more requests in. Returns when no worker reads any more: they may work still.
  void close();
  /// Whether by then no worker works on a request; for when it is closed.
  [[nodiscard]] bool wait_until_idle(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Lets them in again.
  void open() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Has the workers that wait here go back to libfuse with EINTR, which looks whether to end its
  /// loop. For good; the gate is closed.
  void dismiss() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Notes from now on the process groups of those whose requests come.
  void watch_callers() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Those, each once, and notes no more.
  [[nodiscard]] std::vector<pid_t> take_callers() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Another descriptor of a connection, with a queue of its own for answers; -1 for none. libfuse
  /// 3.17 asks for it, before that libfuse clones by itself.
  [[nodiscard]] static int clone_device(int device);

  /// The kernel's first request (FUSE_INIT) and its answer, byte for byte.
  struct Agreement {
    std::string request;
    std::string answer;
  };
  [[nodiscard]] Agreement agreement() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// Has libfuse agree with itself on what `former` says and the kernel has; nobody else must use
  /// the session yet. FAILED_PRECONDITION when this program would have it otherwise.
  [[nodiscard]] absl::Status agree_again(fuse_session& session, const Agreement& former)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class State : uint8_t { kIdle, kReads, kWorks };
  struct Worker {
    explicit Worker(RequestGate& its_gate);
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    RequestGate& gate;
    const pthread_t thread = pthread_self();
    std::atomic<State> state{State::kIdle};
  };

  /// The calling thread's.
  [[nodiscard]] Worker& enrol();
  /// False when it is dismissed.
  [[nodiscard]] bool wait_until_open() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool any(State state) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void note_caller(const char* bytes, size_t size) ABSL_LOCKS_EXCLUDED(mutex_);
  void note_first_request(const char* bytes, size_t size) ABSL_LOCKS_EXCLUDED(mutex_);
  /// True when the answer is not for the kernel.
  [[nodiscard]] bool note_answer(const iovec* pieces, int count) ABSL_LOCKS_EXCLUDED(mutex_);

  const WakeSignal wake_signal_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> agreed_{false};  ///< both sides of the agreement are known
  std::atomic<bool> watches_{false};
  mutable absl::Mutex mutex_;
  std::vector<Worker*> workers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<pid_t> callers_ ABSL_GUARDED_BY(mutex_);
  bool dismissed_ ABSL_GUARDED_BY(mutex_) = false;
  bool agrees_again_ ABSL_GUARDED_BY(mutex_) = false;
  Agreement agreement_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
