#pragma once

#include <fmt/format.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "net/rpc_client.h"

namespace blobcache::ctl {

/// A call that answers at once or, when it waits for a disk or a mount, soon.
inline constexpr std::chrono::seconds kCallDeadline{60};

/// Makes a call the client's: with its token.
inline void prepare(const net::RpcClient& client, grpc::ClientContext& context) {
  if (client.token().empty()) return;
  context.AddMetadata("authorization", fmt::format("Bearer {}", client.token()));
}

/// What a call ended with. The status codes are the daemon's; a lost connection is told as
/// RpcClient does.
[[nodiscard]] inline absl::Status outcome_of(const net::RpcClient& client,
                                             const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The two libraries number the codes alike.
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  return client.explain(base::error(code, status.error_message()));
}

/// One unary call over the client's channel; errors as outcome_of().
template <typename Response, typename Request, typename Stub>
[[nodiscard]] absl::StatusOr<Response> call(const net::RpcClient& client, Stub& stub,
                                            grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                         const Request&, Response*),
                                            const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallDeadline);
  prepare(client, context);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  BLOBCACHE_RETURN_IF_ERROR(outcome_of(client, status));
  return response;
}

}  // namespace blobcache::ctl
