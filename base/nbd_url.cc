#include "base/nbd_url.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "base/url_escape.h"

namespace blobcache::base {

namespace {

constexpr size_t kMaxUrlBytes = 8192;
constexpr size_t kMaxExportBytes = 4096;  // the protocol's bound of a string
constexpr size_t kMaxSocketBytes = 107;   // what sockaddr_un has room for

absl::Status bad(std::string_view why) {
  return error(absl::StatusCode::kInvalidArgument, fmt::format("an NBD url: {}", why));
}

std::string escape(std::string_view text) {
  constexpr std::string_view kPlain = "-._~/";
  std::string out;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || kPlain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

/// The part of `text` before the first of `delimiter`, which is taken off with it; all of it where
/// there is none.
std::string_view take_until(std::string_view& text, char delimiter) {
  const size_t at = text.find(delimiter);
  const std::string_view front = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return front;
}

absl::Status parse_user(std::string_view& authority, NbdUrl& url) {
  const size_t at = authority.rfind('@');
  if (at == std::string_view::npos) return absl::OkStatus();
  const std::string_view user = authority.substr(0, at);
  authority.remove_prefix(at + 1);
  if (user.find(':') != std::string_view::npos) {
    return bad("no password may stand in it; pre-shared keys are in the file of tls_psk");
  }
  if (!url.tls) return bad("only nbds has users");
  std::optional<std::string> name = unescape_url(user);
  if (!name || name->empty()) return bad("the user's name cannot be");
  url.user = *std::move(name);
  return absl::OkStatus();
}

absl::Status parse_host(std::string_view authority, NbdUrl& url) {
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad("a bracket is open");
    url.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return bad("the host cannot be");
    if (!port.empty()) port.remove_prefix(1);
  } else {
    url.host = take_until(authority, ':');
    port = authority;
  }
  constexpr std::string_view kNoHost = " \t/\\%[]@\"'";
  if (url.host.empty() || url.host.find_first_of(kNoHost) != std::string::npos) {
    return bad("the host is missing or cannot be");
  }
  url.port = NbdUrl::kDefaultPort;
  if (port.empty()) return absl::OkStatus();
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
  if (error != std::errc() || end != port.data() + port.size() || url.port == 0) {
    return bad("the port is not a number from 1 to 65535");
  }
  return absl::OkStatus();
}

absl::Status parse_query(std::string_view query, bool unix_socket, NbdUrl& url) {
  while (!query.empty()) {
    std::string_view value = take_until(query, '&');
    const std::string_view key = take_until(value, '=');
    if (key != "socket" || !unix_socket) {
      return bad(fmt::format("\"{}\" says nothing here", key));
    }
    std::optional<std::string> path = unescape_url(value);
    if (!path || !path->starts_with('/') || path->size() > kMaxSocketBytes) {
      return bad("socket= is not an absolute path of at most 107 bytes");
    }
    url.socket = *std::move(path);
  }
  if (unix_socket && url.socket.empty()) return bad("?socket=PATH is missing");
  return absl::OkStatus();
}

}  // namespace

std::string NbdUrl::to_string() const {
  if (!socket.empty()) {
    return fmt::format("{}+unix:///{}?socket={}", tls ? "nbds" : "nbd", escape(export_name),
                       escape(socket));
  }
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}/{}", tls ? "nbds" : "nbd", brackets ? "[" : "", host,
                     brackets ? "]" : "", port, escape(export_name));
}

ListenAddress NbdUrl::address() const {
  if (!socket.empty()) return {ListenAddress::Kind::kUnix, socket, "", 0};
  return {ListenAddress::Kind::kTcp, "", host, port};
}

absl::StatusOr<NbdUrl> parse_nbd_url(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return bad("it is too long");
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("it does not begin with nbd://");
  const std::string_view scheme = text.substr(0, scheme_end);
  text.remove_prefix(scheme_end + 3);
  NbdUrl url;
  url.tls = scheme.starts_with("nbds");
  const bool unix_socket = scheme == "nbd+unix" || scheme == "nbds+unix";
  if (!unix_socket && scheme != "nbd" && scheme != "nbds") {
    return bad("only nbd, nbds, nbd+unix and nbds+unix are known");
  }
  if (text.find('#') != std::string_view::npos) return bad("it has a fragment");
  std::string_view path = take_until(text, '?');
  std::string_view authority = take_until(path, '/');
  BLOBCACHE_RETURN_IF_ERROR(parse_user(authority, url));
  if (unix_socket) {
    if (!authority.empty()) return bad("with +unix it has no host: nbd+unix:///?socket=PATH");
  } else {
    BLOBCACHE_RETURN_IF_ERROR(parse_host(authority, url));
  }
  BLOBCACHE_RETURN_IF_ERROR(parse_query(text, unix_socket, url));
  std::optional<std::string> name = unescape_url(path);
  if (!name || name->size() > kMaxExportBytes) return bad("the export's name cannot be");
  url.export_name = *std::move(name);
  return url;
}

}  // namespace blobcache::base
