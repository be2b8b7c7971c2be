#pragma once

#include <pthread.h>

#include <csignal>

namespace blobcache::fusefs {

/// The first words of each thread of ours: takes a name (at most 15 characters), which libfuse's
/// workers inherit from the thread that starts them, and leaves all signals to the daemon's own
/// threads.
inline void prepare_thread(const char* name) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
}

}  // namespace blobcache::fusefs
