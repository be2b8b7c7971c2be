#include "net/impl/connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/status.h"
#include "base/unique_fd.h"
#include "blobcache.grpc.pb.h"

namespace blobcache::net {
namespace {

constexpr std::chrono::seconds kConnectTimeout{5};
constexpr std::chrono::seconds kCallTimeout{1};
constexpr std::chrono::milliseconds kProbeTimeout{2000};
/// From the end of a call until the channel knows that its connection has ended is a moment.
constexpr std::chrono::milliseconds kStateDelay{500};

absl::Status unreachable(const base::ListenAddress& endpoint, std::string_view why) {
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("cannot reach {}: {}", endpoint.to_string(), why));
}

/// Connects and hangs up: 0, or the errno that says why not.
int try_connect(const addrinfo& candidate) {
  const base::UniqueFd fd(
      socket(candidate.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  if (connect(fd.get(), candidate.ai_addr, candidate.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd ready{fd.get(), POLLOUT, 0};
  if (poll(&ready, 1, static_cast<int>(kProbeTimeout.count())) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/// Why TCP itself does not come to `endpoint`; OK when it does, so that the fault lies above it.
absl::Status probe_tcp(const base::ListenAddress& endpoint) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = fmt::format("{}", endpoint.port);
  if (const int error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
      error != 0) {
    return unreachable(endpoint, fmt::format("cannot resolve the host: {}", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> candidates(found, &freeaddrinfo);
  int error = 0;
  for (const addrinfo* each = candidates.get(); each != nullptr; each = each->ai_next) {
    error = try_connect(*each);
    if (error == 0) return absl::OkStatus();
  }
  return unreachable(endpoint, std::strerror(error));
}

/// What gRPC says of a call over a channel that does not connect.
std::string error_of_call(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  v1::StatResponse response;
  return v1::Data::NewStub(channel)->Stat(&context, v1::StatRequest(), &response).error_message();
}

/// Why a channel does not connect.
absl::Status why_not(const std::shared_ptr<grpc::Channel>& channel,
                     const base::ListenAddress& endpoint, const TlsUse& tls) {
  if (endpoint.kind == base::ListenAddress::Kind::kTcp) {
    BLOBCACHE_RETURN_IF_ERROR(probe_tcp(endpoint));
  }
  if (tls.enabled) {
    const std::string message = error_of_call(channel);
    return unreachable(endpoint, fmt::format("the TLS handshake failed: {}",
                                             handshake_reason(message, tls.with_certificate)));
  }
  return unreachable(endpoint, endpoint.kind == base::ListenAddress::Kind::kTcp
                                   ? "what listens there does not speak gRPC without TLS"
                                   : "what listens there does not speak gRPC");
}

}  // namespace

absl::Status probe_unix(const base::ListenAddress& endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (endpoint.path.size() >= sizeof(address.sun_path))
    return unreachable(endpoint, "the path is too long");
  endpoint.path.copy(address.sun_path, endpoint.path.size());
  const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::errno_error(errno, "socket");
  // A full backlog (EAGAIN) is a server that is busy, which waiting may help.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno != EAGAIN) {
    return unreachable(endpoint, std::strerror(errno));
  }
  return absl::OkStatus();
}

absl::Status wait_for_connection(const std::shared_ptr<grpc::Channel>& channel,
                                 const base::ListenAddress& endpoint, const TlsUse& tls) {
  const auto deadline = std::chrono::system_clock::now() + kConnectTimeout;
  for (;;) {
    const grpc_connectivity_state state = channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return why_not(channel, endpoint, tls);
    }
    if (!channel->WaitForStateChange(state, deadline)) {
      return unreachable(endpoint, fmt::format("no answer for {} s", kConnectTimeout.count()));
    }
  }
}

std::string handshake_reason(std::string_view grpc_message, bool with_certificate) {
  for (const std::string_view end : {"Socket closed", "Connection reset by peer", "Broken pipe"}) {
    if (!grpc_message.ends_with(end)) continue;
    // What a server does that does not like our certificate, after the handshake has ended for us.
    return with_certificate ? "the server hung up; it may not accept our certificate"
                            : "the server hung up; it may want a client certificate";
  }
  // "... last error: UNKNOWN: ipv4:192.0.2.1:7440: Ssl handshake failed: SSL_ERROR_SSL:
  // error:0A000086:SSL routines::certificate verify failed", or another sentence in the end.
  const size_t library = grpc_message.rfind("::");
  const size_t sentence = grpc_message.rfind(": ");
  size_t begin = 0;
  if (library != std::string_view::npos) begin = library + 2;
  if (sentence != std::string_view::npos && sentence + 2 > begin) begin = sentence + 2;
  const std::string_view reason = grpc_message.substr(begin);
  return std::string(reason.empty() ? "no reason was given" : reason);
}

absl::Status explain_end(const absl::Status& status, grpc::ChannelInterface& channel,
                         std::string_view address) {
  if (absl::IsDeadlineExceeded(status) && status.message() == "Deadline Exceeded") {
    return base::error(status.code(),
                       fmt::format("the daemon at {} did not answer in time", address));
  }
  if (!absl::IsUnavailable(status)) return status;
  // The daemon may say this itself, of something else, and then we are connected still.
  const auto deadline = std::chrono::system_clock::now() + kStateDelay;
  if (channel.GetState(false) == GRPC_CHANNEL_READY &&
      !channel.WaitForStateChange(GRPC_CHANNEL_READY, deadline)) {
    return status;
  }
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("the connection to the daemon at {} was lost", address));
}

}  // namespace blobcache::net
