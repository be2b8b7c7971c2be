#pragma once

#include <pthread.h>

namespace blobcache::fusefs {

/// The first words of each thread of ours: takes a name (at most 15 characters), leaves all signals
/// to the daemon's own threads, and is waited for by others who may not wait for a write to a file
/// (base::become_io_flusher()). libfuse's workers inherit it all from the thread that starts them.
void prepare_thread(const char* name);

/// Ends a wait of libfuse's loop, which looks whether it should go only when a signal handler has
/// run on its thread. A real-time signal that nobody else handles serves for that, with a handler
/// that does nothing; it is sent to that one thread alone. Libraries before 3.17 have no other way,
/// short of ending the connection.
///
/// Thread-safe. The signal stays claimed for as long as the process lives; all mounts share it.
class WakeSignal {
 public:
  /// Claims the signal.
  WakeSignal();
  /// Lets the signal through on this thread; after prepare_thread().
  void admit() const;
  /// Interrupts what `thread` waits for now, if anything. `thread` must not have been joined.
  void send(pthread_t thread) const;

 private:
  int signal_ = 0;  // 0: none was free
};

}  // namespace blobcache::fusefs
