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
#include "net/http_origin.h"
#include "net/nbd_origin.h"
#include "net/s3_origin.h"

namespace blobcache::server {

namespace {

/// What may come later is no reason not to start, nor to be silent until somebody asks the origin.
void warn_if_unreadable(const Config::Origin& config, std::string_view key,
                        const std::filesystem::path& path) {
  if (path.empty() || ::access(path.c_str(), R_OK) == 0) return;
  spdlog::warn("origin {}: cannot be reached as it is: {}: {}: {}", config.name, key, path.native(),
               std::generic_category().message(errno));
}

absl::StatusOr<std::shared_ptr<tree::Origin>> make_http(const Config::Origin& config) {
  net::HttpOriginOptions options;
  options.name = config.name;
  options.url = config.url;
  options.connections = config.connections;
  options.connect_timeout = config.connect_timeout;
  options.request_timeout = config.request_timeout;
  options.stall_timeout = config.stall_timeout;
  options.rate_limit = config.rate_limit;
  options.proxy = config.proxy;
  options.tls_ca = config.tls_ca.native();
  options.private_redirects = config.private_redirects;
  options.token_file = config.token_file.native();
  options.header_file = config.header_file.native();
  warn_if_unreadable(config, "tls_ca", config.tls_ca);
  warn_if_unreadable(config, "token_file", config.token_file);
  warn_if_unreadable(config, "header_file", config.header_file);
  return net::make_http_origin(options);
}

absl::StatusOr<std::shared_ptr<tree::Origin>> make_s3(const Config::Origin& config) {
  net::S3OriginOptions options;
  options.name = config.name;
  options.url = config.url;
  options.endpoint = config.endpoint;
  options.region = config.region;
  options.path_style = config.path_style;
  options.credentials_file = config.credentials_file.native();
  options.profile = config.profile;
  options.connections = config.connections;
  options.connect_timeout = config.connect_timeout;
  options.request_timeout = config.request_timeout;
  options.stall_timeout = config.stall_timeout;
  options.rate_limit = config.rate_limit;
  options.proxy = config.proxy;
  options.tls_ca = config.tls_ca.native();
  options.private_redirects = config.private_redirects;
  warn_if_unreadable(config, "tls_ca", config.tls_ca);
  warn_if_unreadable(config, "credentials_file", config.credentials_file);
  return net::make_s3_origin(options);
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
  if (config.type == "http") return make_http(config);
  if (config.type == "s3") return make_s3(config);
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
