#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "store/page/object_key.h"

namespace blobcache::ctl {

// What people type, understood. Pure functions; INVALID_ARGUMENT with the reason for what can never
// be right. Paths are judged by the daemon's own rules, so that nobody need be asked.

/// The tree path that an argument means: "files/a" or "/files/a" as it stands, "sha256:<64 hex>" as
/// "blobs/<64 hex>". "/" is the root, "". Trailing slashes are dropped, as completion leaves them
/// there.
[[nodiscard]] absl::StatusOr<std::string> parse_path(std::string_view text);

/// The same where a name is to be bound: always under files/, which may be written or left out
/// ("a/b" and "files/a/b" are one name). A path that begins with another root of the tree (blobs/,
/// origins/, volumes/) might mean either thing, so it is refused: files/blobs/x must be written in
/// full.
[[nodiscard]] absl::StatusOr<std::string> parse_name(std::string_view text);

/// The same status; when it is NOT_FOUND and `path` begins with no root of the tree, with a hint
/// that names are under files/.
[[nodiscard]] absl::Status with_hint(const absl::Status& status, std::string_view path);

/// "sha256:<64 hex>" or the bare digits.
[[nodiscard]] absl::StatusOr<page::ObjectKey> parse_digest(std::string_view text);

/// Bytes [offset, offset + length); no length: to the end. Value type.
struct ByteRange {
  uint64_t offset = 0;
  std::optional<uint64_t> length;
};

/// Sizes with units (see base/size.h); absent: from the start, to the end. The end must fit into 64
/// bits.
[[nodiscard]] absl::StatusOr<ByteRange> parse_range(const std::optional<std::string>& offset,
                                                    const std::optional<std::string>& length);

/// Bytes a second: a size, perhaps with "/s" behind it ("100MiB", "100MiB/s"); "unlimited" is 0.
[[nodiscard]] absl::StatusOr<uint64_t> parse_rate(std::string_view text);

/// "unix:/PATH", "tcp:HOST:PORT" or a bare absolute path of a unix socket.
[[nodiscard]] absl::StatusOr<base::ListenAddress> parse_endpoint(std::string_view text);

/// An absolute path without ".", ".." or a trailing slash, from one that may be relative to
/// `directory`.
[[nodiscard]] absl::StatusOr<std::string> absolute_path(std::string_view text,
                                                        const std::filesystem::path& directory);

}  // namespace blobcache::ctl
