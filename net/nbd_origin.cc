#include "net/nbd_origin.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/nbd_url.h"
#include "base/status.h"
#include "net/impl/nbd_tree.h"
#include "store/tree/origin.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

absl::Status check(const NbdOriginOptions& options, const base::NbdUrl& url) {
  BLOBCACHE_RETURN_IF_ERROR(tree::check_name(options.name));
  if (options.connections < 1 || options.connections > NbdOriginOptions::kMaxConnections) {
    return absl::InvalidArgumentError(
        fmt::format("connections is not 1 to {}", NbdOriginOptions::kMaxConnections));
  }
  if (options.immutable && !options.read_only) {
    return absl::InvalidArgumentError("what is immutable cannot be written: read_only is false");
  }
  if (options.connect_timeout <= absl::ZeroDuration() ||
      options.request_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a timeout is not positive");
  }
  const bool certificates = !options.tls_certificates.empty();
  const bool psk = !options.tls_psk.empty();
  if (certificates && psk) {
    return absl::InvalidArgumentError("TLS has certificates or pre-shared keys, not both");
  }
  if (!url.tls && (certificates || psk)) {
    return absl::InvalidArgumentError("TLS needs a url of nbds:// or nbds+unix://");
  }
  // libnbd verifies certificates by the host's name, so it does not over a unix socket, and not at
  // all without a folder of them: whoever answers would be taken for the server.
  if (url.tls && !certificates && !psk) {
    return absl::InvalidArgumentError(
        "nbds needs tls_certificates or tls_psk: without them any server would be believed");
  }
  if (certificates && !url.socket.empty()) {
    return absl::InvalidArgumentError(
        "over a unix socket a server's certificate cannot be verified; use tls_psk");
  }
  // libnbd would ask for the name of who has logged in, and a daemon has not.
  if (psk && url.user.empty()) {
    return absl::InvalidArgumentError(
        "tls_psk needs the name of its key in the url: nbds://USER@HOST/, nbds+unix://USER@/");
  }
  const std::string& name = url.export_name;
  if (!name.empty() && !tree::check_name(name.substr(name.rfind('/') + 1)).ok()) {
    return absl::InvalidArgumentError(
        "the export's name does not end in what a file can be called");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<tree::Origin>> make_nbd_origin(const NbdOriginOptions& options) {
  const absl::StatusOr<base::NbdUrl> url = base::parse_nbd_url(options.url);
  if (!url.ok()) return url.status();
  BLOBCACHE_RETURN_IF_ERROR(check(options, *url));
  return std::make_shared<NbdTree>(options, *url);
}

}  // namespace blobcache::net
