#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::tree {

/// The longest name of one entry and the longest path, in bytes, as POSIX programs know them.
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxPathBytes = 4096;
/// So many bytes a symbolic link says at most, as Linux has it.
inline constexpr size_t kMaxTargetBytes = 4095;

/// Whether `name` can name one entry of a directory. Names are bytes: all but "/" and NUL is
/// allowed. INVALID_ARGUMENT with the reason for an empty name, ".", "..", a slash, a NUL byte or
/// too many bytes.
[[nodiscard]] absl::Status check_name(std::string_view name);

/// Whether a symbolic link can say this: 1 to kMaxTargetBytes bytes without NUL. They are data of
/// whoever made the link, and no path of the tree.
[[nodiscard]] bool is_link_target(std::string_view target);

/// The names along `path`, views into it. One leading slash is tolerated; "" and "/" are the root
/// and give no names. INVALID_ARGUMENT with the reason and the path for what check_name() refuses
/// and for a path of more than kMaxPathBytes.
[[nodiscard]] absl::StatusOr<std::vector<std::string_view>> split_path(std::string_view path);

/// Whether a path is files/ or something beneath it. False for what is none.
[[nodiscard]] bool is_within_files(std::string_view path);

/// `path` for a message: on one line, bytes that do not print as \xHH, cut when it is very long.
[[nodiscard]] std::string printable(std::string_view path);

}  // namespace blobcache::tree
