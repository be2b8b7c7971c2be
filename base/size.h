#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace blobcache::base {

/// Reads a size such as "4096", "64KiB", "1.5GiB" or "2TB". Binary units (KiB, MiB, GiB, TiB, PiB;
/// K, M, G, T, P mean the same) are powers of 1024; KB, MB, GB, TB, PB are powers of 1000. Returns
/// bytes. INVALID_ARGUMENT with the reason for anything else: negative, overflowing, unknown unit,
/// empty.
[[nodiscard]] absl::StatusOr<uint64_t> parse_size(std::string_view text);

/// A size for people: "4.0 KiB", "1.5 GiB", "17 B".
[[nodiscard]] std::string format_size(uint64_t bytes);

}  // namespace blobcache::base
