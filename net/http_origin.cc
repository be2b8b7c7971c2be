#include "net/http_origin.h"

#include <fmt/format.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/http_url.h"
#include "base/status.h"
#include "net/impl/http_tree.h"
#include "store/tree/origin.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

absl::Status check_http(const HttpOriginOptions& options, const base::HttpUrl& url) {
  BLOBCACHE_RETURN_IF_ERROR(tree::check_name(options.name));
  if (options.connections < 1 || options.connections > HttpOriginOptions::kMaxConnections) {
    return absl::InvalidArgumentError(
        fmt::format("connections is not 1 to {}", HttpOriginOptions::kMaxConnections));
  }
  if (options.connect_timeout <= absl::ZeroDuration() ||
      options.request_timeout <= absl::ZeroDuration() ||
      options.stall_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a timeout is not positive");
  }
  const bool has_secrets = !options.token_file.empty() || !options.header_file.empty();
  if (has_secrets && !url.tls && !url.is_loopback()) {
    return absl::InvalidArgumentError(
        "token_file and header_file need https: anybody on the way could read them");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<tree::Origin>> make_http_origin(const HttpOriginOptions& options) {
  const absl::StatusOr<base::HttpUrl> url = base::parse_http_url(options.url);
  if (!url.ok()) return url.status();
  BLOBCACHE_RETURN_IF_ERROR(check_http(options, *url));
  return std::make_shared<HttpTree>(options, *url);
}

}  // namespace blobcache::net
