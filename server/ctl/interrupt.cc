#include "server/ctl/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace blobcache::ctl {

Interrupt::Interrupt() {
  ::sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    ::sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_IGN) ::sigaddset(&signals_, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  signal_fd_ = base::UniqueFd(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
  stop_fd_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!signal_fd_.valid() || !stop_fd_.valid()) {
    // Without descriptors the command will soon fail anyway; until then signals end it as they
    // always do.
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    return;
  }
  thread_ = std::thread([this] { wait(); });
}

Interrupt::~Interrupt() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stop_fd_.get(), 1);
  thread_.join();
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Interrupt::add(std::function<void()> clean_up) {
  const absl::MutexLock lock(&mutex_);
  clean_ups_.insert(clean_ups_.begin(), std::move(clean_up));
}

void Interrupt::wait() {
  std::array<pollfd, 2> polled = {pollfd{signal_fd_.get(), POLLIN, 0},
                                  pollfd{stop_fd_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    signalfd_siginfo info{};
    if (::read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
      leave(static_cast<int>(info.ssi_signo));
    }
    if ((polled[1].revents & POLLIN) != 0) return;
  }
}

void Interrupt::leave(int signal) {
  // The lock is never given back: nobody adds a clean-up that would not run.
  mutex_.Lock();
  for (const std::function<void()>& clean_up : clean_ups_) clean_up();
  // Not exit(): other threads are in the middle of something, and destructors would wait for them.
  ::_exit(128 + signal);
}

}  // namespace blobcache::ctl
