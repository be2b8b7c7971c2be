#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace blobcache::ctl {

// How values look in text output. Pure functions.

/// `text` with everything that a terminal might act upon made visible, in C's notation: "\n", "\t",
/// "\r",
/// "\\", and "\x1b" for other control characters, bytes that are not UTF-8 and characters that
/// change the direction of writing. So one name is one line, and two different names never look the
/// same.
[[nodiscard]] std::string escape(std::string_view text);

[[nodiscard]] bool is_utf8(std::string_view text);

/// How many columns a terminal takes for UTF-8 text without control characters: one a character.
[[nodiscard]] size_t display_width(std::string_view text);

/// The first `width` columns of UTF-8 text; when it was longer, its last three are "...".
[[nodiscard]] std::string shorten(std::string_view text, size_t width);

/// "drwxr-xr-x", from permission bits (07777).
[[nodiscard]] std::string format_mode(bool directory, uint32_t mode);

/// "sha256:<64 hex>" of a digest's 32 bytes.
[[nodiscard]] std::string format_digest(std::string_view bytes);

/// Local time, "2026-05-31 17:05".
[[nodiscard]] std::string format_local_time(absl::Time time);

/// UTC as RFC 3339 with nanoseconds, "2026-05-31T15:05:00.000000000Z".
[[nodiscard]] std::string format_utc(absl::Time time);

/// "0:07", "12:34", "3:00:00": minutes and seconds, hours where there are any.
[[nodiscard]] std::string format_clock(uint64_t seconds);

/// The two largest units: "3 d 4 h", "2 h 5 min", "1 min 3 s", "42 s".
[[nodiscard]] std::string format_age(uint64_t seconds);

/// "12.5 %" of a whole; "-" when the whole is 0.
[[nodiscard]] std::string format_share(uint64_t part, uint64_t whole);

}  // namespace blobcache::ctl
