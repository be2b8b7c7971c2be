#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "server/ctl/outcome.h"

namespace blobcache::ctl {

/// Writes `text` to standard output, all of it, and says so when that fails (a full disk, a reader
/// that has gone).
[[nodiscard]] Outcome print(std::string_view text);

/// Writes one JSON document, indented, with a newline at its end. Text that is not UTF-8 (a local
/// file's name may be anything) has U+FFFD in its place.
[[nodiscard]] Outcome print_json(const nlohmann::ordered_json& document);

/// Writes "blobcachectl: MESSAGE" to stderr: one line, whatever the message holds.
void print_error(std::string_view message);

}  // namespace blobcache::ctl
