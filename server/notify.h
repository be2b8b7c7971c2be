#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace blobcache::server {

/// Sends one message of sd_notify(3) ("READY=1") to a service manager's socket. `socket_name` is
/// what $NOTIFY_SOCKET holds: an absolute path, or "@name" for Linux's abstract sockets; with ""
/// nobody wants to know, which is OK. INVALID_ARGUMENT for another name, else the socket's error.
/// Never blocks for long: a datagram to a full socket is given up with UNAVAILABLE. Thread-safe.
[[nodiscard]] absl::Status notify(std::string_view socket_name, std::string_view message);

/// $NOTIFY_SOCKET, or "". Call it before there are other threads.
[[nodiscard]] std::string notify_socket_name();

}  // namespace blobcache::server
