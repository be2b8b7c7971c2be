#include "net/impl/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/status.h"

namespace blobcache::net {
namespace {

constexpr std::chrono::milliseconds kTick{1000};
/// Connections taken from one listener before the others get their turn.
constexpr int kBatch = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::listen(
    std::vector<base::ListenAddress> addresses, const base::ListenFunction& listen_on) {
  std::unique_ptr<Acceptor> acceptor(new Acceptor());
  acceptor->wake_ = base::UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!acceptor->wake_.valid()) return base::errno_error(errno, "eventfd");
  for (base::ListenAddress& address : addresses) {
    // On an error the destructor takes back those before this one.
    BLOBCACHE_ASSIGN_OR_RETURN(base::UniqueFd listener, listen_on(address));
    acceptor->listeners_.push_back(std::move(listener));
    acceptor->addresses_.push_back(address);
  }
  return acceptor;
}

void Acceptor::start(Accepted accepted, std::function<void()> tick) {
  accepted_ = std::move(accepted);
  tick_ = std::move(tick);
  thread_ = std::thread([this] { run(); });
}

void Acceptor::stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    static_cast<void>(
        write(wake_.get(), &one, sizeof(one)));  // fails only when it is awake already
    thread_.join();
  }
  listeners_.clear();
  if (!keeps_listening_.load()) {
    for (const base::ListenAddress& address : addresses_) base::remove_socket_file(address);
  }
  addresses_.clear();
}

absl::StatusOr<std::vector<base::UniqueFd>> Acceptor::keep_listening() {
  std::vector<base::UniqueFd> sockets;
  for (size_t i = 0; i < listeners_.size(); ++i) {
    base::UniqueFd copy(::fcntl(listeners_[i].get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return base::errno_error(errno, addresses_[i].to_string());
    sockets.push_back(std::move(copy));
  }
  keeps_listening_.store(true);
  return sockets;
}

void Acceptor::run() {
  static_cast<void>(pthread_setname_np(pthread_self(), "grpc-accept"));
  std::vector<pollfd> polls;
  for (const base::UniqueFd& listener : listeners_) polls.push_back({listener.get(), POLLIN, 0});
  polls.push_back({wake_.get(), POLLIN, 0});
  auto next_tick = std::chrono::steady_clock::now() + kTick;
  bool room = true;
  for (;;) {
    const auto wait =
        std::chrono::ceil<std::chrono::milliseconds>(next_tick - std::chrono::steady_clock::now());
    // Without room only the wake-up is watched until the next tick.
    pollfd* const first = room ? polls.data() : &polls.back();
    const nfds_t count = room ? polls.size() : 1;
    const int ready = poll(first, count, std::max(0, static_cast<int>(wait.count())));
    if (ready > 0 && polls.back().revents != 0) return;
    if (std::chrono::steady_clock::now() >= next_tick) {
      tick_();
      next_tick = std::chrono::steady_clock::now() + kTick;
      room = true;
      continue;
    }
    if (ready <= 0 || !room) continue;
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (polls[i].revents != 0 && !accept_all(i)) room = false;
    }
  }
}

bool Acceptor::accept_all(size_t index) {
  for (int i = 0; i < kBatch; ++i) {
    base::UniqueFd connection(
        accept4(listeners_[index].get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (connection.valid()) {
      accepted_(addresses_[index].kind, std::move(connection));
      continue;
    }
    switch (errno) {
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        spdlog::warn("grpc: cannot accept on {}: {}; trying again in a second",
                     addresses_[index].to_string(), strerror(errno));
        return false;
      default:  // nothing left, or a connection that has gone again
        return true;
    }
  }
  return true;
}

}  // namespace blobcache::net
