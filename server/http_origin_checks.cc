#include "server/impl/http_origin_checks.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/http_url.h"
#include "base/s3_url.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "server/config_keys.h"

namespace blobcache::server {
namespace {

/// Keys of some types of origins alone.
struct TypedKey {
  std::string_view name;
  bool nbd = false;
  bool http = false;
  bool s3 = false;
  bool dir = false;
};

constexpr std::array<TypedKey, 19> kTypedKeys = {{
    {"url", true, true, true, false},
    {"path", false, false, false, true},
    {"connect_timeout", true, true, true, false},
    {"read_only", true, false, false, false},
    {"immutable", true, false, false, false},
    {"tls_certificates", true, false, false, false},
    {"tls_psk", true, false, false, false},
    {"stall_timeout", false, true, true, false},
    {"rate_limit", false, true, true, false},
    {"proxy", false, true, true, false},
    {"tls_ca", false, true, true, false},
    {"private_redirects", false, true, true, false},
    {"token_file", false, true, false, false},
    {"header_file", false, true, false, false},
    {"endpoint", false, false, true, false},
    {"region", false, false, true, false},
    {"path_style", false, false, true, false},
    {"credentials_file", false, false, true, false},
    {"profile", false, false, true, false},
}};

bool is_of_type(const TypedKey& key, std::string_view type) {
  return (type == "nbd" && key.nbd) || (type == "http" && key.http) || (type == "s3" && key.s3) ||
         (type == "dir" && key.dir);
}

void check_http_secrets(const Config::Origin& origin, const base::HttpUrl& url,
                        const std::string& prefix, const ReportProblem& report) {
  if (url.tls || url.is_loopback()) return;
  constexpr std::string_view kClear =
      "would go over the network in the clear; the url must be https://";
  if (!origin.token_file.empty()) report(prefix + "token_file", std::string(kClear));
  if (!origin.header_file.empty()) report(prefix + "header_file", std::string(kClear));
}

void check_s3_place(const Config::Origin& origin, const std::string& prefix,
                    const ReportProblem& report) {
  const absl::StatusOr<base::S3Url> url = base::parse_s3_url(origin.url);
  if (!url.ok()) report(prefix + "url", std::string(base::message(url.status())));
  if (!origin.endpoint.empty()) {
    const absl::StatusOr<base::HttpUrl> endpoint = base::parse_http_url(origin.endpoint);
    if (!endpoint.ok()) {
      report(prefix + "endpoint", std::string(base::message(endpoint.status())));
    } else if (endpoint->path != "/") {
      report(prefix + "endpoint", "no path can stand in it");
    }
  }
  if (origin.region.empty() || base::escape_url(origin.region, false) != origin.region) {
    report(prefix + "region", "must be a word of letters, digits and hyphens");
  }
  if (origin.profile.empty()) report(prefix + "profile", "must not be empty");
}

}  // namespace

void check_http_origin(const Config::Origin& origin, const std::string& prefix,
                       const ReportProblem& report) {
  if (origin.url.empty()) {
    report(prefix + "url", "is needed");
  } else if (origin.type == "s3") {
    check_s3_place(origin, prefix, report);
  } else {
    const absl::StatusOr<base::HttpUrl> url = base::parse_http_url(origin.url);
    if (!url.ok()) {
      report(prefix + "url", std::string(base::message(url.status())));
    } else {
      check_http_secrets(origin, *url, prefix, report);
    }
  }
  if (origin.proxy.empty()) return;
  const absl::StatusOr<base::HttpUrl> proxy = base::parse_http_url(origin.proxy);
  if (!proxy.ok()) {
    report(prefix + "proxy", std::string(base::message(proxy.status())));
  } else if (proxy->path != "/") {
    report(prefix + "proxy", "no path can stand in it");
  }
}

void check_foreign_keys(const Config::Origin& origin, const std::string& prefix,
                        const ReportProblem& report) {
  const bool is_known =
      origin.type == "nbd" || origin.type == "http" || origin.type == "s3" || origin.type == "dir";
  if (!is_known) return;
  Config now;
  Config standard;
  now.origins = {origin};
  standard.origins.emplace_back();
  const absl::Span<const ConfigKey> keys = origin_keys();
  for (const TypedKey& typed : kTypedKeys) {
    if (is_of_type(typed, origin.type)) continue;
    for (const ConfigKey& key : keys) {
      if (key.name != typed.name || key.print(now) == key.print(standard)) continue;
      report(prefix + std::string(key.name),
             fmt::format("says nothing of an origin of type \"{}\"", origin.type));
    }
  }
}

}  // namespace blobcache::server
