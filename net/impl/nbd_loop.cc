#include "net/impl/nbd_loop.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace blobcache::net {

NbdLoop::NbdLoop() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { run(); }) {}

bool NbdLoop::post(Task& task) {
  const absl::MutexLock lock(&mutex_);
  if (ending_) return false;
  tasks_.push_back(std::move(task));
  if (tasks_.size() == 1) eventfd_write(wake_.get(), 1);
  return true;
}

bool NbdLoop::add(std::shared_ptr<NbdLoopClient> client) {
  Task task = [this, client = std::move(client)]() mutable {
    if (end_by_ != absl::InfiniteFuture()) client->end_by(end_by_);
    clients_.push_back(std::move(client));
  };
  return post(task);
}

void NbdLoop::end_by(absl::Time when) {
  Task task = [this, when] {
    end_by_ = when;
    for (const std::shared_ptr<NbdLoopClient>& client : clients_) client->end_by(when);
  };
  // A loop that has ended has ended all.
  (void)post(task);
}

void NbdLoop::stop() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
    eventfd_write(wake_.get(), 1);
  }
  if (thread_.joinable()) thread_.join();
}

void NbdLoop::run() {
  pthread_setname_np(pthread_self(), "nbd-origin");
  while (run_tasks()) wait(run_clients());
  // What was posted before the end has run, so the clients know of all that was accepted.
  for (const std::shared_ptr<NbdLoopClient>& client : clients_) client->stop();
  clients_.clear();
}

bool NbdLoop::run_tasks() {
  std::vector<Task> tasks;
  bool ending = false;
  {
    const absl::MutexLock lock(&mutex_);
    tasks.swap(tasks_);
    ending = ending_;
  }
  for (Task& task : tasks) task();
  return !ending;
}

absl::Time NbdLoop::run_clients() {
  absl::Time until = absl::InfiniteFuture();
  const absl::Time now = absl::Now();
  for (const std::shared_ptr<NbdLoopClient>& client : clients_) {
    until = std::min(until, client->work(now));
  }
  std::erase_if(clients_, [](const auto& client) { return client->finished(); });
  return until;
}

void NbdLoop::wait(absl::Time until) {
  watched_.clear();
  for (const std::shared_ptr<NbdLoopClient>& client : clients_) client->watch(watched_);
  std::vector<pollfd> fds;
  fds.reserve(watched_.size() + 1);
  fds.push_back({wake_.get(), POLLIN, 0});
  for (NbdWatched* watched : watched_) {
    fds.push_back({watched->fd(), watched->events(), 0});
  }
  int timeout_ms = -1;
  if (until != absl::InfiniteFuture()) {
    const absl::Duration left =
        std::clamp(until - absl::Now(), absl::ZeroDuration(), absl::Duration(absl::Hours(1)));
    timeout_ms =
        static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
  }
  if (::poll(fds.data(), fds.size(), timeout_ms) <= 0) return;
  if (fds[0].revents != 0) {
    eventfd_t count = 0;
    eventfd_read(wake_.get(), &count);
  }
  for (size_t i = 0; i < watched_.size(); ++i) {
    if (fds[i + 1].revents != 0) watched_[i]->notify(fds[i + 1].revents);
  }
}

}  // namespace blobcache::net
