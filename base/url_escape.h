#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace blobcache::base {

/// Bytes as a URL has them (RFC 3986): all but letters, digits and "-._~" escaped, upper-case
/// digits. Slashes stay when `keep_slashes`.
[[nodiscard]] std::string escape_url(std::string_view bytes, bool keep_slashes);

/// The reverse; absent for a bad escape, and for NUL, which no name and no path has. A plus sign is
/// one.
[[nodiscard]] std::optional<std::string> unescape_url(std::string_view text);

}  // namespace blobcache::base
