#include "test/net/nbd_proxy.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace blobcache::net {

namespace {

sockaddr_un address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return address;
}

base::UniqueFd unix_socket() {
  return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

base::UniqueFd listen_at(const std::filesystem::path& path) {
  base::UniqueFd fd = unix_socket();
  const sockaddr_un address = address_of(path);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd.get(), 64) == 0);
  return fd;
}

/// False at the end of what `from` sends.
bool move_bytes(int from, int to) {
  std::array<char, size_t{64} << 10> bytes;
  const ssize_t got = ::recv(from, bytes.data(), bytes.size(), 0);
  if (got <= 0) {
    ::shutdown(to, SHUT_WR);
    return false;
  }
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t more =
        ::send(to, bytes.data() + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (more <= 0) return true;  // who does not listen ends by itself
    sent += more;
  }
  return true;
}

}  // namespace

NbdProxy::NbdProxy(const std::filesystem::path& front, std::filesystem::path back)
    : back_(std::move(back)),
      listener_(listen_at(front)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { run(); }) {}

NbdProxy::~NbdProxy() {
  order_ = kEnd;
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

void NbdProxy::ask(Order order) {
  order_ = order;
  eventfd_write(wake_.get(), 1);
  while (order_ != kNone) absl::SleepFor(absl::Milliseconds(1));
}

void NbdProxy::admit() {
  Pair pair;
  pair.client = base::UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  pair.server = unix_socket();
  const sockaddr_un address = address_of(back_);
  if (::connect(pair.server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
      0) {
    return;
  }
  pairs_.push_back(std::move(pair));
}

void NbdProxy::run() {
  while (order_ != kEnd) {
    std::vector<pollfd> fds = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    for (const Pair& pair : pairs_) {
      fds.push_back({pair.held || pair.client_ended ? -1 : pair.client.get(), POLLIN, 0});
      fds.push_back({pair.server_ended ? -1 : pair.server.get(), POLLIN, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    for (size_t i = 0; i < pairs_.size(); ++i) {
      Pair& pair = pairs_[i];
      if (fds[2 + 2 * i].revents != 0) {
        pair.client_ended = !move_bytes(pair.client.get(), pair.server.get());
      }
      if (fds[3 + 2 * i].revents != 0) {
        pair.server_ended = !move_bytes(pair.server.get(), pair.client.get());
      }
    }
    // A server that has ended hangs up on its client, as its kernel would.
    std::erase_if(pairs_, [](const Pair& pair) { return pair.server_ended; });
    if (fds[0].revents != 0) admit();
    if (fds[1].revents != 0) {
      eventfd_t count = 0;
      eventfd_read(wake_.get(), &count);
    }
    if (order_ == kHold || order_ == kRelease) {
      for (Pair& pair : pairs_) pair.held = order_ == kHold;
      order_ = kNone;
    }
  }
}

}  // namespace blobcache::net
