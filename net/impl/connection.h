#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/listen_address.h"

namespace blobcache::net {

// How a client's connection comes about and how it ends, in words for people. gRPC's own name what
// happened inside of it.

/// How a client makes itself known over TCP. Value type.
struct TlsUse {
  bool enabled = false;
  bool with_certificate = false;  ///< we show one
};

/// Whether somebody listens on a unix socket: UNAVAILABLE "cannot reach ADDRESS: why" if not, at
/// once, where gRPC would try for long and not say why.
[[nodiscard]] absl::Status probe_unix(const base::ListenAddress& endpoint);

/// Waits until `channel` is connected to `endpoint`: until the server's first words, which with TLS
/// it says when it has accepted us. UNAVAILABLE "cannot reach ADDRESS: why" when that fails, or
/// takes more than 5 s.
[[nodiscard]] absl::Status wait_for_connection(const std::shared_ptr<grpc::Channel>& channel,
                                               const base::ListenAddress& endpoint,
                                               const TlsUse& tls);

/// Why a TLS handshake failed, from what gRPC says: "certificate verify failed". Pure.
[[nodiscard]] std::string handshake_reason(std::string_view grpc_message, bool with_certificate);

/// The same status, unless gRPC made it of a connection that broke (UNAVAILABLE "the connection to
/// the daemon at ADDRESS was lost") or of a deadline that passed. May wait half a second for the
/// channel's state.
[[nodiscard]] absl::Status explain_end(const absl::Status& status, grpc::ChannelInterface& channel,
                                       std::string_view address);

}  // namespace blobcache::net
