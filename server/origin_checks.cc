#include "server/impl/origin_checks.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/nbd_url.h"
#include "base/resolve_links.h"
#include "base/status.h"
#include "server/impl/config_checks.h"
#include "server/impl/http_origin_checks.h"
#include "store/tree/path.h"

namespace blobcache::server {
namespace {

using base::ListenAddress;

/// An address that is written as a number, without its text's variants.
std::optional<std::string> binary(const std::string& host) {
  std::array<char, sizeof(in6_addr)> bytes{};
  if (::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1) {
    return std::string(bytes.data(), sizeof(in_addr));
  }
  if (::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1) {
    return std::string(bytes.data(), sizeof(in6_addr));
  }
  return std::nullopt;
}

/// Whether an address is one of this machine's.
bool is_ours(const std::string& address) {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return false;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, &::freeifaddrs);
  for (const ifaddrs* each = first; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    const void* const bare = each->ifa_addr;
    const char* found = nullptr;
    size_t length = 0;
    if (each->ifa_addr->sa_family == AF_INET) {
      found = reinterpret_cast<const char*>(&static_cast<const sockaddr_in*>(bare)->sin_addr);
      length = sizeof(in_addr);
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      found = reinterpret_cast<const char*>(&static_cast<const sockaddr_in6*>(bare)->sin6_addr);
      length = sizeof(in6_addr);
    }
    if (found != nullptr && address == std::string_view(found, length)) return true;
  }
  return false;
}

bool is_our_name(const std::string& host) {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && host == name.data();
}

bool reaches(const std::string& host, const std::string& listener) {
  if (host == listener) return true;
  const std::optional<std::string> there = binary(host);
  const std::optional<std::string> here = binary(listener);
  const bool is_loopback = ListenAddress{ListenAddress::Kind::kTcp, "", host, 1}.is_local();
  const bool listens_on_all = here && here->find_first_not_of('\0') == std::string::npos;
  if (listens_on_all) {
    // All zeros as a destination is the machine itself, too.
    const bool is_zero = there && there->find_first_not_of('\0') == std::string::npos;
    return is_loopback || is_zero || (there ? is_ours(*there) : is_our_name(host));
  }
  if (host == "localhost" || listener == "localhost") {
    return is_loopback && ListenAddress{ListenAddress::Kind::kTcp, "", listener, 1}.is_local();
  }
  return there && here && *there == *here;
}

void check_url(const Config& config, const Config::Origin& origin, const std::string& key,
               const ReportProblem& report) {
  if (origin.url.empty()) return report(key, "is needed");
  const absl::StatusOr<base::NbdUrl> url = base::parse_nbd_url(origin.url);
  if (!url.ok()) return report(key, std::string(base::message(url.status())));
  // As net::make_nbd_origin() has it.
  const std::string& name = url->export_name;
  if (!name.empty() && !tree::check_name(name.substr(name.rfind('/') + 1)).ok()) {
    report(key, "the export's name does not end in what a file can be called");
  }
  for (const ListenAddress& listener : config.nbd.listen) {
    if (!leads_to(url->address(), listener)) continue;
    return report(key, fmt::format("leads back to this daemon, which would wait for itself: {} is "
                                   "in nbd.listen",
                                   listener.to_string()));
  }
}

/// Where a directory cannot be.
void check_directory(const Config& config, const Config::Origin& origin, const std::string& prefix,
                     const ReportProblem& report) {
  const std::string key = prefix + "path";
  if (origin.path.empty()) return report(key, "is needed");
  const absl::Status apart = check_apart(origin.path, config.store.path);
  if (!apart.ok()) return report(key, std::string(base::message(apart)));
  if (config.fuse.mountpoint.empty()) return;
  const std::filesystem::path mountpoint = base::resolve_links(config.fuse.mountpoint);
  const std::filesystem::path place = base::resolve_links(origin.path);
  if (std::mismatch(mountpoint.begin(), mountpoint.end(), place.begin(), place.end()).first ==
      mountpoint.end()) {
    report(key, fmt::format("lies on fuse.mountpoint, {}: the daemon would wait for itself",
                            config.fuse.mountpoint.native()));
  }
}

void check_type(const Config::Origin& origin, const std::string& key, const ReportProblem& report) {
  constexpr std::string_view kServed = "\"nbd\", \"http\", \"s3\" or \"dir\"";
  if (origin.type.empty()) return report(key, fmt::format("is needed: {}", kServed));
  const bool is_known =
      origin.type == "nbd" || origin.type == "http" || origin.type == "s3" || origin.type == "dir";
  if (is_known) return;
  report(key, fmt::format("\"{}\" is no type of origin; {} is", origin.type, kServed));
}

void check_nbd_origin_tls(const Config::Origin& origin, const std::string& prefix,
                          const ReportProblem& report) {
  const bool is_tls = origin.url.starts_with("nbds");
  if (!is_tls && !origin.tls_certificates.empty()) {
    report(prefix + "tls_certificates", "the url asks for no TLS; nbds:// or nbds+unix:// do");
  }
  if (!is_tls && !origin.tls_psk.empty()) {
    report(prefix + "tls_psk", "the url asks for no TLS; nbds:// or nbds+unix:// do");
  }
  // As net::make_nbd_origin() has it: nobody would verify who answers.
  if (is_tls && origin.tls_certificates.empty() && origin.tls_psk.empty()) {
    report(prefix + "url", "TLS needs tls_certificates or tls_psk");
  }
  if (origin.url.starts_with("nbds+unix") && !origin.tls_certificates.empty()) {
    report(prefix + "tls_certificates",
           "a server's certificate cannot be verified over a unix socket; tls_psk can");
  }
  const absl::StatusOr<base::NbdUrl> url = base::parse_nbd_url(origin.url);
  if (is_tls && !origin.tls_psk.empty() && url.ok() && url->user.empty()) {
    report(prefix + "url", "tls_psk needs the user whose key it is, as in nbds://USER@HOST/");
  }
  if (!origin.tls_certificates.empty() && !origin.tls_psk.empty()) {
    report(prefix + "tls_psk", "excludes tls_certificates");
  }
}

}  // namespace

bool leads_to(const ListenAddress& address, const ListenAddress& listener) {
  if (address.kind != listener.kind) return false;
  if (address.kind == ListenAddress::Kind::kUnix) {
    return base::resolve_links(address.path) == base::resolve_links(listener.path);
  }
  return address.port == listener.port && reaches(address.host, listener.host);
}

void check_origins(const Config& config, const ReportProblem& report) {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < config.origins.size(); ++i) {
    const Config::Origin& origin = config.origins[i];
    const std::string prefix = fmt::format("origin[{}].", i);
    if (origin.name.empty()) {
      report(prefix + "name", "is needed");
    } else if (const absl::Status name = tree::check_name(origin.name); !name.ok()) {
      report(prefix + "name", fmt::format("cannot be a name: {}", base::message(name)));
    } else if (std::find(names.begin(), names.end(), origin.name) != names.end()) {
      report(prefix + "name", fmt::format("\"{}\" is another origin's", origin.name));
    }
    names.push_back(origin.name);
    check_type(origin, prefix + "type", report);
    check_foreign_keys(origin, prefix, report);
    if (origin.type == "http" || origin.type == "s3") check_http_origin(origin, prefix, report);
    if (origin.type == "nbd") {
      check_url(config, origin, prefix + "url", report);
      check_nbd_origin_tls(origin, prefix, report);
    }
    if (origin.type == "dir") check_directory(config, origin, prefix, report);
    if (origin.type == "nbd" && origin.immutable && !origin.read_only) {
      report(prefix + "immutable", "what is written to through us changes: read_only = false");
    }
  }
}

}  // namespace blobcache::server
