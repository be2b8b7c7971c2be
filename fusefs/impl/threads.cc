#include "fusefs/impl/threads.h"

#include <csignal>

#include "base/io_flusher.h"

namespace blobcache::fusefs {
namespace {

void do_nothing(int /*signal*/) {}

}  // namespace

void prepare_thread(const char* name) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
  base::become_io_flusher();
}

WakeSignal::WakeSignal() {
  for (int candidate = SIGRTMAX; candidate > SIGRTMIN; --candidate) {
    struct sigaction now = {};
    if (sigaction(candidate, nullptr, &now) != 0) continue;
    if (now.sa_handler == &do_nothing) {
      signal_ = candidate;
      return;
    }
    if (now.sa_handler != SIG_DFL) continue;
    struct sigaction ours = {};
    ours.sa_handler = &do_nothing;  // and no SA_RESTART: to interrupt is the point
    if (sigaction(candidate, &ours, nullptr) == 0) {
      signal_ = candidate;
      return;
    }
  }
}

void WakeSignal::admit() const {
  if (signal_ == 0) return;
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal_);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
}

void WakeSignal::send(pthread_t thread) const {
  if (signal_ != 0) pthread_kill(thread, signal_);
}

}  // namespace blobcache::fusefs
