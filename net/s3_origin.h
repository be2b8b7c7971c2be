#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// A bucket, or a folder of one, as an origin. Value type.
struct S3OriginOptions {
  static constexpr uint32_t kMaxConnections = 16;

  std::string name;                  ///< one component, as tree::check_name() has it
  std::string url;                   ///< as base::parse_s3_url() has it
  std::string endpoint;              ///< http:// or https:// url of the server; "" for Amazon's
  std::string region = "us-east-1";  ///< what requests are signed for
  /// The bucket stands in the path and not in the host's name. So it does over TLS where its name
  /// has dots, which no certificate covers.
  bool path_style = false;
  std::string credentials_file;     ///< "": the environment, or the shared credentials file
  std::string profile = "default";  ///< the section of that file
  uint32_t connections = 4;         ///< requests at a time; 1 to kMaxConnections
  absl::Duration connect_timeout = absl::Seconds(10);  ///< positive, with name lookup and TLS
  absl::Duration request_timeout = absl::Seconds(30);  ///< positive, with all that is tried again
  absl::Duration stall_timeout = absl::Seconds(10);    ///< positive; as HttpOriginOptions has it
  uint64_t rate_limit = 0;                             ///< bytes of content a second; 0: no limit
  std::string proxy;                                   ///< "" for none
  std::string tls_ca;              ///< a file of certificates; "" for the system's
  bool private_redirects = false;  ///< whether redirects may lead to private addresses
};

/// An origin that reads through to S3, or to what speaks as it does. Does not connect yet, nor read
/// the credentials. INVALID_ARGUMENT with the reason for options that cannot be.
///
/// stop() and the end are as make_http_origin() has them.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_s3_origin(
    const S3OriginOptions& options);

}  // namespace blobcache::net
