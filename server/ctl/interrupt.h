#pragma once

#include <signal.h>

#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"

namespace blobcache::ctl {

/// While it lives, SIGINT, SIGTERM and SIGHUP tidy up before they end the program: a thread of its
/// own waits for them, runs the clean-ups and leaves with 128 + the signal's number. Whatever the
/// other threads wait for (a daemon, a disk, a terminal), Ctrl-C works at once, and the daemon sees
/// the connection close.
///
/// Make it before anything that starts threads (gRPC does), so that they all leave the signals
/// alone. A signal that was ignored when the program started stays ignored, as nohup wants it.
/// Thread-safe.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();  ///< the signals work as before again; waits for a clean-up that runs
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// `clean_up` will run on the thread of this object, before those that were added earlier. It
  /// must own what it needs, for it lives as long as this object.
  void add(std::function<void()> clean_up);

 private:
  void wait();
  [[noreturn]] void leave(int signal);

  sigset_t signals_{};
  sigset_t before_{};
  base::UniqueFd signal_fd_;
  base::UniqueFd stop_fd_;
  absl::Mutex mutex_;
  std::vector<std::function<void()>> clean_ups_ ABSL_GUARDED_BY(mutex_);  ///< the next to run first
  std::thread thread_;
};

}  // namespace blobcache::ctl
