#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace blobcache::base {

/// A folder of an HTTP server: what lies beneath it is asked for by the rest of a path. Value type.
struct HttpUrl {
  bool tls = false;
  std::string host;    ///< lower case, without brackets
  uint16_t port = 80;  ///< never 0
  std::string path;    ///< percent-encoded; begins and ends with a slash

  friend bool operator==(const HttpUrl&, const HttpUrl&) = default;

  /// One text for one meaning: the port only where it is not the scheme's own.
  [[nodiscard]] std::string to_string() const;
  /// The same without the path and the slash before it.
  [[nodiscard]] std::string server() const;
  /// "HOST" or "HOST:PORT", as the Host header has it.
  [[nodiscard]] std::string authority() const;
  /// Whether the host is this machine by an address or name that never leaves it.
  [[nodiscard]] bool is_loopback() const;
};

/// http://HOST[:PORT][/PATH/] or https://...; a slash at the end is added where there is none.
/// INVALID_ARGUMENT with the reason, which never repeats a password, for anything else: a user's
/// name, a query, a fragment, bad escapes, more than 8 KiB.
[[nodiscard]] absl::StatusOr<HttpUrl> parse_http_url(std::string_view url);

}  // namespace blobcache::base
