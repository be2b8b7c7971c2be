#include "server/origins.h"

#include <fmt/format.h>

#include <utility>

#include "absl/status/status.h"
#include "base/status.h"
#include "net/nbd_origin.h"

namespace blobcache::server {

absl::StatusOr<std::shared_ptr<tree::Origin>> make_origin(const Config::Origin& config) {
  if (config.type == "nbd") {
    net::NbdOriginOptions options;
    options.name = config.name;
    options.url = config.url;
    options.connections = config.connections;
    options.read_only = config.read_only;
    options.immutable = config.immutable;
    options.connect_timeout = config.connect_timeout;
    options.request_timeout = config.request_timeout;
    options.tls_certificates = config.tls_certificates.native();
    options.tls_psk = config.tls_psk.native();
    return net::make_nbd_origin(options);
  }
  return absl::UnimplementedError(fmt::format("no origins of type \"{}\" are served", config.type));
}

absl::StatusOr<Origins> make_origins(const std::vector<Config::Origin>& configs,
                                     const OriginFactory& factory) {
  Origins origins;
  for (const Config::Origin& config : configs) {
    absl::StatusOr<std::shared_ptr<tree::Origin>> origin = factory(config);
    if (!origin.ok()) {
      return base::annotate(origin.status(), fmt::format("origin {}", config.name));
    }
    origins.push_back(*std::move(origin));
  }
  return origins;
}

}  // namespace blobcache::server
