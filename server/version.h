#pragma once

#include <string_view>

namespace blobcache::server {

/// The project's version, "MAJOR.MINOR.PATCH".
[[nodiscard]] std::string_view version();

}  // namespace blobcache::server
