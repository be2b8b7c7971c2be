#include "net/s3_origin.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/http_url.h"
#include "base/s3_url.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "net/impl/s3_tree.h"
#include "store/tree/origin.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

absl::Status check_s3(const S3OriginOptions& options) {
  BLOBCACHE_RETURN_IF_ERROR(tree::check_name(options.name));
  if (options.connections < 1 || options.connections > S3OriginOptions::kMaxConnections) {
    return absl::InvalidArgumentError(
        fmt::format("connections is not 1 to {}", S3OriginOptions::kMaxConnections));
  }
  if (options.connect_timeout <= absl::ZeroDuration() ||
      options.request_timeout <= absl::ZeroDuration() ||
      options.stall_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a timeout is not positive");
  }
  if (options.region.empty() || base::escape_url(options.region, false) != options.region) {
    return absl::InvalidArgumentError("the region is no word of letters, digits and hyphens");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<tree::Origin>> make_s3_origin(const S3OriginOptions& options) {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::S3Url url, base::parse_s3_url(options.url));
  BLOBCACHE_RETURN_IF_ERROR(check_s3(options));
  const std::string endpoint = options.endpoint.empty()
                                   ? fmt::format("https://s3.{}.amazonaws.com/", options.region)
                                   : options.endpoint;
  BLOBCACHE_ASSIGN_OR_RETURN(const base::HttpUrl server, base::parse_http_url(endpoint));
  if (server.path != "/") return absl::InvalidArgumentError("the endpoint has a path");
  return std::make_shared<S3Tree>(options, url, server);
}

}  // namespace blobcache::net
