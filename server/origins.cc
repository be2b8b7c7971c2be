#include "server/origins.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "base/status.h"
#include "net/nbd_origin.h"

namespace blobcache::server {

namespace {

/// What may come later is no reason not to start, nor to be silent until somebody asks the origin.
void warn_if_unreadable(const Config::Origin& config, std::string_view key,
                        const std::filesystem::path& path) {
  if (path.empty() || ::access(path.c_str(), R_OK) == 0) return;
  spdlog::warn("origin {}: cannot be reached as it is: {}: {}: {}", config.name, key, path.native(),
               std::generic_category().message(errno));
}

}  // namespace

absl::StatusOr<std::shared_ptr<tree::Origin>> make_origin(
    const Config::Origin& config, const std::shared_ptr<net::DirGuard>& guard) {
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
    warn_if_unreadable(config, "tls_certificates", config.tls_certificates);
    warn_if_unreadable(config, "tls_psk", config.tls_psk);
    return net::make_nbd_origin(options);
  }
  if (config.type == "dir") {
    net::DirOriginOptions options;
    options.name = config.name;
    options.path = config.path.native();
    options.reads = config.connections;
    options.request_timeout = config.request_timeout;
    options.guard = guard;
    warn_if_unreadable(config, "path", config.path);
    return net::make_dir_origin(options);
  }
  return absl::UnimplementedError(fmt::format("no origins of type \"{}\" are served", config.type));
}

absl::StatusOr<Origins> make_origins(const std::vector<Config::Origin>& configs,
                                     const OriginFactory& factory,
                                     const std::shared_ptr<net::DirGuard>& guard) {
  Origins origins;
  for (const Config::Origin& config : configs) {
    absl::StatusOr<std::shared_ptr<tree::Origin>> origin = factory(config, guard);
    if (!origin.ok()) {
      return base::annotate(origin.status(), fmt::format("origin {}", config.name));
    }
    origins.push_back(*std::move(origin));
  }
  return origins;
}

}  // namespace blobcache::server
