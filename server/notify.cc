#include "server/notify.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::server {

absl::Status notify(std::string_view socket_name, std::string_view message) {
  if (socket_name.empty()) return absl::OkStatus();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool is_abstract = socket_name.front() == '@';
  if (socket_name.size() >= sizeof(address.sun_path) ||
      (!is_abstract && socket_name.front() != '/')) {
    return absl::InvalidArgumentError(
        fmt::format("NOTIFY_SOCKET: bad address \"{}\"", socket_name));
  }
  std::memcpy(address.sun_path, socket_name.data(), socket_name.size());
  if (is_abstract) address.sun_path[0] = '\0';
  const base::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::errno_error(errno, "NOTIFY_SOCKET");
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_name.size());
  const auto* target = static_cast<const sockaddr*>(static_cast<const void*>(&address));
  const ssize_t sent = ::sendto(fd.get(), message.data(), message.size(),
                                MSG_NOSIGNAL | MSG_DONTWAIT, target, length);
  if (sent < 0) return base::errno_error(errno, fmt::format("NOTIFY_SOCKET {}", socket_name));
  return absl::OkStatus();
}

std::string notify_socket_name() {
  const char* name = std::getenv("NOTIFY_SOCKET");
  return name == nullptr ? "" : name;
}

}  // namespace blobcache::server
