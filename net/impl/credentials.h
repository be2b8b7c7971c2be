#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::net {

/// Reads a bearer token: the file's content without surrounding white space. FAILED_PRECONDITION,
/// naming the file, when it is empty, holds anything but one printable word or is over 4 KiB. A
/// file that others may read gets a warning in the log.
[[nodiscard]] absl::StatusOr<std::string> read_token(const std::string& path);

/// Reads a PEM file of at most 1 MiB; the error names it and `what` it is.
[[nodiscard]] absl::StatusOr<std::string> read_pem(const std::string& path, const char* what);

/// How TCP callers are known. PEM texts; all may be empty. With `client_ca` a client must show a
/// certificate that it signed; with `token` every call must bring "authorization: Bearer <token>",
/// else it is UNAUTHENTICATED. Both may be asked for.
struct TcpSecurity {
  std::string certificate;
  std::string key;
  std::string client_ca;
  std::string token;
};

/// Credentials for connections that come over TCP. INVALID_ARGUMENT when certificate and key do not
/// fit.
[[nodiscard]] absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> tcp_credentials(
    const TcpSecurity& security);

/// Whether both are the same, in a time that tells nothing but the length of `given`.
[[nodiscard]] bool same_secret(const std::string& secret, const std::string& given);

}  // namespace blobcache::net
