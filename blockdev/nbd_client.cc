#include "blockdev/nbd_client.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status.h"
#include "blockdev/impl/nbd_client_handshake.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

using base::ListenAddress;
using base::UniqueFd;

absl::Status too_late() {
  return absl::DeadlineExceededError("the NBD server does not answer in time");
}

absl::Status nobody(const ListenAddress& server, int error) {
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("cannot connect to the NBD server at {}: {}", server.to_string(),
                                 std::strerror(error)));
}

/// Waits until the socket is ready for `events`.
absl::Status wait_for(int socket, short events, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return too_late();
    pollfd fd{socket, events, 0};
    // At least a millisecond, so that the last one is not spent spinning.
    const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 1, 60'000);
    const int ready = ::poll(&fd, 1, static_cast<int>(ms));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return base::errno_error(errno, "poll");
  }
}

absl::StatusOr<UniqueFd> connect_to(const ListenAddress& server, int family, const sockaddr* name,
                                    socklen_t length, absl::Time deadline) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return base::errno_error(errno, "cannot make a socket");
  int error = ::connect(socket.get(), name, length) == 0 ? 0 : errno;
  while (error == EAGAIN) {
    // A unix socket whose backlog is full; there is nothing to wait for but the time.
    if (absl::Now() >= deadline) return too_late();
    absl::SleepFor(absl::Milliseconds(10));
    error = ::connect(socket.get(), name, length) == 0 ? 0 : errno;
  }
  if (error == EINPROGRESS) {
    BLOBCACHE_RETURN_IF_ERROR(wait_for(socket.get(), POLLOUT, deadline));
    socklen_t size = sizeof(error);
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  }
  if (error != 0) return nobody(server, error);
  return socket;
}

absl::StatusOr<UniqueFd> connect_unix(const ListenAddress& server, absl::Time deadline) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, server.path.data(),
              std::min(server.path.size(), sizeof(name.sun_path) - 1));
  const void* const generic = &name;
  return connect_to(server, AF_UNIX, static_cast<const sockaddr*>(generic), sizeof(name), deadline);
}

absl::StatusOr<UniqueFd> connect_tcp(const ListenAddress& server, absl::Time deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(server.port);
  if (const int error = ::getaddrinfo(server.host.c_str(), port.c_str(), &hints, &found);
      error != 0) {
    return base::error(absl::StatusCode::kUnavailable,
                       fmt::format("cannot connect to the NBD server at {}: {}", server.to_string(),
                                   ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  absl::Status last = nobody(server, EADDRNOTAVAIL);
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    absl::StatusOr<UniqueFd> socket =
        connect_to(server, at->ai_family, at->ai_addr, at->ai_addrlen, deadline);
    if (socket.ok()) {
      // Without it the connection is slower, not wrong.
      const int on = 1;
      (void)::setsockopt(socket->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      return socket;
    }
    last = socket.status();
  }
  return last;
}

absl::Status send_all(int socket, std::string_view text, absl::Time deadline) {
  while (!text.empty()) {
    const ssize_t n = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EINTR) {
      BLOBCACHE_RETURN_IF_ERROR(wait_for(socket, POLLOUT, deadline));
    } else {
      return base::error(absl::StatusCode::kUnavailable,
                         fmt::format("the NBD server hung up: {}", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status receive_all(int socket, absl::Span<std::byte> into, absl::Time deadline) {
  while (!into.empty()) {
    const ssize_t n = ::recv(socket, into.data(), into.size(), MSG_DONTWAIT);
    if (n > 0) {
      into.remove_prefix(static_cast<size_t>(n));
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      BLOBCACHE_RETURN_IF_ERROR(wait_for(socket, POLLIN, deadline));
    } else {
      return absl::UnavailableError("the NBD server hung up during the handshake");
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool OpenedExport::read_only() const { return (transmission_flags & nbd::kFlagReadOnly) != 0; }

bool OpenedExport::can_multi_conn() const {
  return (transmission_flags & nbd::kFlagCanMultiConn) != 0;
}

absl::StatusOr<OpenedExport> open_export(UniqueFd socket, std::string_view name,
                                         absl::Time deadline) {
  if (name.size() > nbd::kMaxString) {
    return absl::InvalidArgumentError("an export's name has at most 4096 bytes");
  }
  ClientHandshake handshake{std::string(name)};
  ClientHandshake::State state = ClientHandshake::State::kNegotiating;
  std::vector<std::byte> message;
  while (state == ClientHandshake::State::kNegotiating) {
    message.resize(handshake.wanted());
    BLOBCACHE_RETURN_IF_ERROR(receive_all(socket.get(), absl::MakeSpan(message), deadline));
    std::string answer;
    state = handshake.take(message, answer);
    BLOBCACHE_RETURN_IF_ERROR(send_all(socket.get(), answer, deadline));
  }
  if (state == ClientHandshake::State::kFailed) return handshake.error();
  return OpenedExport{.socket = std::move(socket),
                      .size_bytes = handshake.size_bytes(),
                      .transmission_flags = handshake.transmission_flags(),
                      .min_block_bytes = handshake.min_block_bytes()};
}

absl::StatusOr<OpenedExport> open_export(const ListenAddress& server, std::string_view name,
                                         absl::Time deadline) {
  absl::StatusOr<UniqueFd> socket = server.kind == ListenAddress::Kind::kUnix
                                        ? connect_unix(server, deadline)
                                        : connect_tcp(server, deadline);
  if (!socket.ok()) return socket.status();
  return open_export(*std::move(socket), name, deadline);
}

}  // namespace blobcache::blockdev
