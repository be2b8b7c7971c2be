#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace blobcache::net {

// The codes of absl::Status and grpc::Status are the same numbers; only the classes differ.

/// For an answer. A message over 1 KiB is cut, as gRPC bounds what it sends before the body.
[[nodiscard]] grpc::Status to_grpc(const absl::Status& status);

[[nodiscard]] absl::Status from_grpc(const grpc::Status& status);

}  // namespace blobcache::net
