#include "base/http_url.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "base/status.h"
#include "base/url_escape.h"

namespace blobcache::base {

namespace {

constexpr size_t kMaxHttpUrlBytes = 8192;
constexpr uint16_t kHttpPort = 80;
constexpr uint16_t kHttpsPort = 443;

absl::Status bad_http_url(std::string_view why) {
  return error(absl::StatusCode::kInvalidArgument, fmt::format("an HTTP url: {}", why));
}

std::string lower_case(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

absl::Status parse_http_host(std::string_view authority, HttpUrl& url) {
  if (authority.find('@') != std::string_view::npos) {
    return bad_http_url(
        "no user and no password may stand in it; token_file and header_file are for those");
  }
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad_http_url("a bracket is open");
    url.host = lower_case(authority.substr(1, end - 1));
    port = authority.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return bad_http_url("the host cannot be");
  } else {
    const size_t colon = authority.find(':');
    url.host = lower_case(authority.substr(0, colon));
    if (colon != std::string_view::npos) port = authority.substr(colon);
  }
  constexpr std::string_view kNoHost = " \\%[]\"'<>^`{|}";
  bool can_be = !url.host.empty() && url.host.find_first_of(kNoHost) == std::string::npos;
  for (const char c : url.host) can_be = can_be && c > ' ' && c < '\x7f';
  if (!can_be) return bad_http_url("the host is missing or cannot be");
  url.port = url.tls ? kHttpsPort : kHttpPort;
  if (port.empty()) return absl::OkStatus();
  port.remove_prefix(1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
  if (error != std::errc() || end != port.data() + port.size() || url.port == 0) {
    return bad_http_url("the port is not a number from 1 to 65535");
  }
  return absl::OkStatus();
}

}  // namespace

std::string HttpUrl::authority() const {
  const bool brackets = host.find(':') != std::string::npos;
  std::string text = brackets ? fmt::format("[{}]", host) : host;
  if (port != (tls ? kHttpsPort : kHttpPort)) text += fmt::format(":{}", port);
  return text;
}

std::string HttpUrl::server() const {
  return fmt::format("{}://{}", tls ? "https" : "http", authority());
}

std::string HttpUrl::to_string() const { return server() + path; }

bool HttpUrl::is_loopback() const {
  return ListenAddress{ListenAddress::Kind::kTcp, "", host, port}.is_local();
}

absl::StatusOr<HttpUrl> parse_http_url(std::string_view text) {
  if (text.size() > kMaxHttpUrlBytes) return bad_http_url("more than 8 KiB");
  HttpUrl url;
  const size_t colon = text.find("://");
  const std::string scheme = lower_case(text.substr(0, colon));
  if (colon == std::string_view::npos || (scheme != "http" && scheme != "https")) {
    return bad_http_url("only http:// and https:// are known");
  }
  url.tls = scheme == "https";
  text.remove_prefix(colon + 3);
  const size_t end = text.find_first_of("/?#");
  BLOBCACHE_RETURN_IF_ERROR(parse_http_host(text.substr(0, end), url));
  const std::string_view rest = end == std::string_view::npos ? "" : text.substr(end);
  if (rest.find_first_of("?#") != std::string_view::npos) {
    return bad_http_url("a query or a fragment cannot stand in it");
  }
  const std::optional<std::string> path = unescape_url(rest);
  if (!path) return bad_http_url("a bad escape");
  // One spelling for one path, since it is hashed into keys.
  url.path = escape_url(*path, true);
  if (!url.path.starts_with('/')) url.path.insert(0, 1, '/');
  if (!url.path.ends_with('/')) url.path += '/';
  for (const std::string_view dots : {"/./", "/../", "//"}) {
    if (url.path.find(dots) != std::string::npos) {
      return bad_http_url("\".\", \"..\" and empty parts cannot stand in its path");
    }
  }
  return url;
}

}  // namespace blobcache::base
