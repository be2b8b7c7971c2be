#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace blobcache::net {

/// What a Content-Range header says. Value type.
struct HttpContentRange {
  /// The first and the last byte; absent in the reply to a range that cannot be ("bytes */9").
  std::optional<uint64_t> first;
  std::optional<uint64_t> last;
  std::optional<uint64_t> total;  ///< of the whole; absent for "*"

  friend bool operator==(const HttpContentRange&, const HttpContentRange&) = default;
};

/// Absent for what is none, or contradicts itself: another unit, last before first, last not below
/// total, numbers beyond 63 bits.
[[nodiscard]] std::optional<HttpContentRange> parse_content_range(std::string_view text);

/// How long to wait, counted from `now`: seconds, or the time until a date; never negative, at most
/// a day. Absent for what is neither.
[[nodiscard]] std::optional<absl::Duration> parse_retry_after(std::string_view text,
                                                              absl::Time now);

/// "Sun, 06 Nov 1994 08:49:37 GMT", and nothing else. Absent for other dates.
[[nodiscard]] std::optional<absl::Time> parse_http_date(std::string_view text);

/// The head of a reply as far as it matters here, read line by line. Knows no I/O; one thread at a
/// time.
class HttpHead {
 public:
  /// So many bytes of header lines are read of one reply.
  static constexpr size_t kMostBytes = size_t{64} << 10;
  /// So many of a value that is kept.
  static constexpr size_t kMostValue = size_t{8} << 10;

  /// A status line (which begins anew: replies like 100 come before the real one), a header line,
  /// or the empty line at the end; with or without the line's end.
  void add_line(std::string_view line);

  int status = 0;  ///< 0: none yet
  /// What makes the reply unusable, for people; "" for nothing: two lengths that differ, numbers
  /// that are none, too much.
  std::string malformed;

  std::optional<uint64_t> content_length;
  std::optional<HttpContentRange> content_range;
  std::string etag;
  std::string last_modified;
  std::string content_type;  ///< lower case, without parameters
  std::string content_encoding;
  std::string location;
  std::string retry_after;
  std::string version_id;  ///< S3's

 private:
  void add_header(std::string_view name, std::string_view value);
  void keep(std::string& place, std::string_view value);

  size_t bytes_ = 0;
};

}  // namespace blobcache::net
