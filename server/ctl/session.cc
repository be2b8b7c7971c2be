#include "server/ctl/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "server/ctl/arguments.h"
#include "server/ctl/outcome.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

constexpr size_t kLongestToken = 4096;
constexpr std::string_view kIsItRunning = "is blobcached running?";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Whether somebody listens on a unix socket, and if not, why: gRPC would try again and again, and
/// not say.
absl::Status knock(const base::ListenAddress& address) {
  const base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::errno_error(errno, "cannot make a socket");
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.path.data(),
              std::min(address.path.size(), sizeof(name.sun_path) - 1));
  const void* const generic = &name;
  if (::connect(fd.get(), static_cast<const sockaddr*>(generic), sizeof(name)) == 0) {
    return absl::OkStatus();
  }
  const bool absent = errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR;
  return unreachable(address.to_string(), absent ? kIsItRunning : std::strerror(errno));
}

}  // namespace

absl::StatusOr<std::string> read_token(const std::string& path) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) return base::errno_error(errno, fmt::format("token file {}", escape(path)));
  std::array<char, kLongestToken + 2> buffer{};
  size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t got = ::read(fd.get(), buffer.data() + filled, buffer.size() - filled);
    if (got < 0) return base::errno_error(errno, fmt::format("token file {}", escape(path)));
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  std::string_view text(buffer.data(), filled);
  text = text.substr(0, text.find('\n'));
  if (text.ends_with('\r')) text.remove_suffix(1);
  const auto printable = [](char c) { return c > ' ' && c < '\x7f'; };
  if (text.empty() || text.size() > kLongestToken ||
      !std::all_of(text.begin(), text.end(), printable)) {
    return base::error(
        absl::StatusCode::kInvalidArgument,
        fmt::format(
            "token file {}: its first line must be a token of printable characters, at most {}",
            escape(path), kLongestToken));
  }
  return std::string(text);
}

bool Session::may_be_there() const {
  const absl::StatusOr<base::ListenAddress> address = endpoint();
  return address.ok() &&
         (address->kind != base::ListenAddress::Kind::kUnix || knock(*address).ok());
}

absl::StatusOr<base::ListenAddress> Session::endpoint() const {
  std::string text = options_.endpoint;
  std::string_view from = "--endpoint";
  if (text.empty()) {
    text = environment("BLOBCACHE_ENDPOINT");
    from = "BLOBCACHE_ENDPOINT";
  }
  if (text.empty()) text = kDefaultEndpoint;
  absl::StatusOr<base::ListenAddress> address = parse_endpoint(text);
  if (!address.ok()) return base::annotate(address.status(), from);
  return address;
}

absl::StatusOr<net::RpcClientOptions> Session::client_options() const {
  net::RpcClientOptions client;
  BLOBCACHE_ASSIGN_OR_RETURN(client.endpoint, endpoint());
  if (client.endpoint.kind == base::ListenAddress::Kind::kUnix) return client;
  client.tls_ca = options_.tls_ca;
  client.tls_certificate = options_.tls_certificate;
  client.tls_key = options_.tls_key;
  std::string token_file = options_.token_file;
  if (token_file.empty()) token_file = environment("BLOBCACHE_TOKEN_FILE");
  if (!token_file.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(client.token, read_token(token_file));
  }
  return client;
}

absl::StatusOr<net::RpcClient*> Session::connect() {
  if (client_ != nullptr) return client_.get();
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClientOptions client, client_options());
  if (client.endpoint.kind == base::ListenAddress::Kind::kUnix) {
    BLOBCACHE_RETURN_IF_ERROR(knock(client.endpoint));
  }
  absl::StatusOr<std::unique_ptr<net::RpcClient>> connected = net::RpcClient::connect(client);
  if (!connected.ok()) {
    // The commonest reason deserves better words than gRPC has for it.
    const bool refused =
        base::message(connected.status()).find("Connection refused") != std::string_view::npos;
    return refused ? unreachable(client.endpoint.to_string(), kIsItRunning) : connected.status();
  }
  client_ = *std::move(connected);
  return client_.get();
}

}  // namespace blobcache::ctl
