#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace blobcache::base {

/// Where a listener listens or a client connects: "unix:/PATH" or "tcp:HOST:PORT"
/// ("tcp:[::1]:10809" for IPv6). Value type.
struct ListenAddress {
  enum class Kind : uint8_t { kUnix, kTcp };
  Kind kind = Kind::kUnix;
  std::string path;   ///< kUnix
  std::string host;   ///< kTcp; without brackets
  uint16_t port = 0;  ///< kTcp; 0 lets the kernel choose

  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;

  [[nodiscard]] std::string to_string() const;
  /// True for unix sockets and for loopback hosts (127.0.0.0/8, ::1, "localhost").
  [[nodiscard]] bool is_local() const;
};

/// INVALID_ARGUMENT with the reason for anything else.
[[nodiscard]] absl::StatusOr<ListenAddress> parse_listen_address(std::string_view text);

/// A listening socket (non-blocking, close-on-exec, backlog 128). A unix socket is made with mode
/// 0660; one that a dead process left is replaced, one that answers is ALREADY_EXISTS ("in use").
/// TCP uses SO_REUSEADDR; a port in use is ALREADY_EXISTS. `address.port` 0 is replaced by the port
/// that the kernel chose. Every error names the address.
[[nodiscard]] absl::StatusOr<UniqueFd> listen_on(ListenAddress& address);

/// How a door comes by its listening sockets: as listen_on(), or where such a socket was handed
/// over by the process before, that one.
using ListenFunction = std::function<absl::StatusOr<UniqueFd>(ListenAddress& address)>;

/// Removes a unix socket's file; for use after the listener is closed. No-op for TCP.
void remove_socket_file(const ListenAddress& address);

}  // namespace blobcache::base
