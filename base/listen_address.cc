#include "base/listen_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/status.h"

namespace blobcache::base {
namespace {

constexpr int kBacklog = 128;
constexpr mode_t kSocketMode = 0660;
constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kTcpPrefix = "tcp:";

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

absl::Status bad_address(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("bad address \"{}\": {}", text, why));
}

absl::Status socket_error(const ListenAddress& address, int error, std::string_view what) {
  return errno_error(error, fmt::format("{}: {}", address.to_string(), what));
}

absl::Status in_use(const ListenAddress& address, std::string_view why) {
  return absl::AlreadyExistsError(fmt::format("{}: in use: {}", address.to_string(), why));
}

bool is_ipv6(std::string_view host) {
  // A scope ("fe80::1%eth0") is for getaddrinfo to judge.
  const std::string numeric(host.substr(0, host.find('%')));
  in6_addr ignored{};
  return ::inet_pton(AF_INET6, numeric.c_str(), &ignored) == 1;
}

bool is_host_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
}

absl::StatusOr<ListenAddress> parse_unix(std::string_view text) {
  ListenAddress address;
  address.kind = ListenAddress::Kind::kUnix;
  address.path = text.substr(kUnixPrefix.size());
  if (!address.path.starts_with('/')) {
    return bad_address(text, "a unix socket needs an absolute path, as in \"unix:/run/name.sock\"");
  }
  if (address.path.ends_with('/')) return bad_address(text, "the path names a directory");
  if (address.path.find('\0') != std::string::npos)
    return bad_address(text, "a NUL byte in the path");
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (address.path.size() > kLongest) {
    return bad_address(text, fmt::format("a unix socket's path has at most {} bytes", kLongest));
  }
  return address;
}

absl::StatusOr<ListenAddress> parse_tcp(std::string_view text) {
  ListenAddress address;
  address.kind = ListenAddress::Kind::kTcp;
  std::string_view rest = text.substr(kTcpPrefix.size());
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) return bad_address(text, "\"[\" without \"]\"");
    address.host = rest.substr(1, close - 1);
    if (!is_ipv6(address.host)) return bad_address(text, "no IPv6 address between the brackets");
    rest.remove_prefix(close + 1);
  } else {
    const size_t colon = std::min(rest.find(':'), rest.size());
    address.host = rest.substr(0, colon);
    rest.remove_prefix(colon);
    if (address.host.empty())
      return bad_address(text, "no host; use 0.0.0.0 or [::] for every address");
    if (!std::all_of(address.host.begin(), address.host.end(), is_host_character)) {
      return bad_address(text, "a character that no host name has");
    }
  }
  if (!rest.starts_with(':')) return bad_address(text, "no port, as in \"tcp:127.0.0.1:10809\"");
  rest.remove_prefix(1);
  if (rest.find(':') != std::string_view::npos) {
    return bad_address(text, "an IPv6 address needs brackets, as in \"tcp:[::1]:10809\"");
  }
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), address.port);
  if (error != std::errc() || end != rest.data() + rest.size()) {
    return bad_address(text, "the port must be a number from 0 to 65535");
  }
  return address;
}

sockaddr_un unix_name(const ListenAddress& address) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const size_t length = std::min(address.path.size(), sizeof(name.sun_path) - 1);
  std::memcpy(name.sun_path, address.path.data(), length);
  return name;
}

/// The sockets API takes every family through this one pointer type.
template <typename Name>
const sockaddr* generic(const Name& name) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&name));
}

/// OK when nothing is in the way any more: what a dead process left was removed.
absl::Status clear_stale_socket(const ListenAddress& address, const sockaddr_un& name) {
  struct stat info{};
  if (::lstat(address.path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : socket_error(address, errno, "cannot look at it");
  }
  if (!S_ISSOCK(info.st_mode)) return in_use(address, "there is a file that is not a socket");
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return socket_error(address, errno, "cannot make a socket");
  if (::connect(probe.get(), generic(name), sizeof(name)) == 0) {
    return in_use(address, "another process answers there");
  }
  if (errno == ENOENT) return absl::OkStatus();
  // Anything but a refusal (a full backlog, another socket type, no rights) means that somebody may
  // be there.
  if (errno != ECONNREFUSED) return in_use(address, std::strerror(errno));
  if (::unlink(address.path.c_str()) != 0 && errno != ENOENT) {
    return socket_error(address, errno, "cannot remove the socket that a dead process left");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> listen_unix(const ListenAddress& address) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return socket_error(address, errno, "cannot make a socket");
  // The file takes its first mode from the socket, so that it is never open to more than this; the
  // chmod afterwards undoes the umask.
  if (::fchmod(fd.get(), kSocketMode) != 0)
    return socket_error(address, errno, "cannot set its mode");
  const sockaddr_un name = unix_name(address);
  if (::bind(fd.get(), generic(name), sizeof(name)) != 0) {
    if (errno != EADDRINUSE) return socket_error(address, errno, "cannot bind");
    BLOBCACHE_RETURN_IF_ERROR(clear_stale_socket(address, name));
    if (::bind(fd.get(), generic(name), sizeof(name)) != 0) {
      if (errno == EADDRINUSE) return in_use(address, "another process has just taken it");
      return socket_error(address, errno, "cannot bind");
    }
  }
  if (::listen(fd.get(), kBacklog) != 0 || ::chmod(address.path.c_str(), kSocketMode) != 0) {
    const int error = errno;
    ::unlink(address.path.c_str());
    return socket_error(address, error, "cannot listen");
  }
  return fd;
}

absl::StatusOr<AddressList> resolve(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = fmt::format("{}", address.port);
  const int error = ::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found);
  if (error == EAI_SYSTEM) return socket_error(address, errno, "cannot resolve the host");
  if (error != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{}: cannot resolve the host: {}", address.to_string(), ::gai_strerror(error)));
  }
  return AddressList(found, &::freeaddrinfo);
}

absl::StatusOr<uint16_t> bound_port(const ListenAddress& address, int fd) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } name{};
  socklen_t length = sizeof(name);
  if (::getsockname(fd, &name.any, &length) != 0) {
    return socket_error(address, errno, "cannot learn the port");
  }
  return ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
}

absl::StatusOr<UniqueFd> listen_at(const ListenAddress& address, const addrinfo& candidate) {
  UniqueFd fd(::socket(candidate.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return socket_error(address, errno, "cannot make a socket");
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
    return socket_error(address, errno, "cannot set SO_REUSEADDR");
  }
  // With SO_REUSEADDR two sockets may bind the same port; the second one fails in listen.
  if (::bind(fd.get(), candidate.ai_addr, candidate.ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE) return in_use(address, "another process listens on that port");
    return socket_error(address, errno, "cannot listen");
  }
  return fd;
}

absl::StatusOr<UniqueFd> listen_tcp(ListenAddress& address) {
  BLOBCACHE_ASSIGN_OR_RETURN(const AddressList candidates, resolve(address));
  absl::Status first_error;
  // A name may have addresses of families that this machine lacks: the first one that works is
  // taken.
  for (const addrinfo* candidate = candidates.get(); candidate != nullptr;
       candidate = candidate->ai_next) {
    absl::StatusOr<UniqueFd> fd = listen_at(address, *candidate);
    if (fd.ok()) {
      BLOBCACHE_ASSIGN_OR_RETURN(address.port, bound_port(address, fd->get()));
      return fd;
    }
    // A port in use is the answer: listening on another family only would surprise its clients.
    if (absl::IsAlreadyExists(fd.status())) return fd.status();
    if (first_error.ok()) first_error = fd.status();
  }
  return first_error;
}

}  // namespace

std::string ListenAddress::to_string() const {
  if (kind == Kind::kUnix) return fmt::format("{}{}", kUnixPrefix, path);
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}{}:{}", kTcpPrefix, brackets ? "[" : "", host, brackets ? "]" : "",
                     port);
}

bool ListenAddress::is_local() const {
  if (kind == Kind::kUnix) return true;
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host.size() == 9 && ::strcasecmp(host.c_str(), "localhost") == 0;
}

absl::StatusOr<ListenAddress> parse_listen_address(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) return parse_unix(text);
  if (text.starts_with(kTcpPrefix)) return parse_tcp(text);
  return bad_address(text, "it must be \"unix:/PATH\" or \"tcp:HOST:PORT\"");
}

absl::StatusOr<UniqueFd> listen_on(ListenAddress& address) {
  return address.kind == ListenAddress::Kind::kUnix ? listen_unix(address) : listen_tcp(address);
}

void remove_socket_file(const ListenAddress& address) {
  if (address.kind == ListenAddress::Kind::kUnix) ::unlink(address.path.c_str());
}

}  // namespace blobcache::base
