#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// A folder of an HTTP server as an origin. Value type.
struct HttpOriginOptions {
  static constexpr uint32_t kMaxConnections = 16;

  std::string name;          ///< one component, as tree::check_name() has it
  std::string url;           ///< as base::parse_http_url() has it
  uint32_t connections = 4;  ///< requests at a time; 1 to kMaxConnections
  absl::Duration connect_timeout = absl::Seconds(10);  ///< positive, with name lookup and TLS
  absl::Duration request_timeout = absl::Seconds(30);  ///< positive, with all that is tried again
  /// Positive; a reply that brings less than 1 KiB a second for as long is given up.
  absl::Duration stall_timeout = absl::Seconds(10);
  uint64_t rate_limit = 0;         ///< bytes of content a second; 0: no limit
  std::string proxy;               ///< http:// or https:// url of a proxy; "" for none
  std::string tls_ca;              ///< a file of certificates; "" for the system's
  bool private_redirects = false;  ///< whether redirects may lead to private addresses
  std::string token_file;          ///< holds a bearer token; "" for none
  std::string header_file;         ///< holds header lines to send; "" for none
};

/// An origin that reads through to an HTTP server (libcurl). Does not connect yet. INVALID_ARGUMENT
/// with the reason, which repeats no secret, for options that cannot be; among them credentials
/// that would go over the network in the clear.
///
/// After stop() calls end with CANCELLED at once, and what is open fails after two seconds.
/// Destroying the origin ends its thread; what is under way fails with UNAVAILABLE, and so does all
/// that is asked of sources that somebody still holds.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_http_origin(
    const HttpOriginOptions& options);

}  // namespace blobcache::net
