#include "net/impl/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

namespace blobcache::net {

namespace {

std::string_view without_blanks(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string lower_text(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

/// Digits alone, at most 2^63 - 1.
std::optional<uint64_t> parse_count(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number || number > std::numeric_limits<int64_t>::max()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<HttpContentRange> parse_content_range(std::string_view text) {
  text = without_blanks(text);
  constexpr std::string_view kUnit = "bytes ";
  if (lower_text(text.substr(0, kUnit.size())) != kUnit) return std::nullopt;
  text = without_blanks(text.substr(kUnit.size()));
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view range = text.substr(0, slash);
  const std::string_view total = text.substr(slash + 1);
  HttpContentRange found;
  if (total != "*") {
    found.total = parse_count(total);
    if (!found.total) return std::nullopt;
  }
  if (range == "*") return found.total ? std::optional(found) : std::nullopt;
  const size_t dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  found.first = parse_count(range.substr(0, dash));
  found.last = parse_count(range.substr(dash + 1));
  if (!found.first || !found.last || *found.last < *found.first) return std::nullopt;
  if (found.total && *found.last >= *found.total) return std::nullopt;
  return found;
}

std::optional<absl::Time> parse_http_date(std::string_view text) {
  absl::Time time;
  std::string error;
  const std::string value(without_blanks(text));
  if (value.size() != std::string_view("Sun, 06 Nov 1994 08:49:37 GMT").size()) return std::nullopt;
  if (!absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", value, &time, &error)) return std::nullopt;
  return time;
}

std::optional<absl::Duration> parse_retry_after(std::string_view text, absl::Time now) {
  constexpr absl::Duration kMost = absl::Hours(24);
  text = without_blanks(text);
  if (const std::optional<uint64_t> seconds = parse_count(text)) {
    return std::min(absl::Seconds(static_cast<int64_t>(*seconds)), kMost);
  }
  const std::optional<absl::Time> until = parse_http_date(text);
  if (!until) return std::nullopt;
  return std::clamp(*until - now, absl::ZeroDuration(), kMost);
}

void HttpHead::keep(std::string& place, std::string_view value) {
  if (value.size() > kMostValue) {
    malformed = "a header is too long";
    return;
  }
  place = std::string(value);
}

void HttpHead::add_header(std::string_view name, std::string_view value) {
  if (name == "content-length") {
    const std::optional<uint64_t> length = parse_count(value);
    if (!length || (content_length && *content_length != *length)) {
      malformed = fmt::format("its Content-Length is no number, or two");
      return;
    }
    content_length = length;
  } else if (name == "content-range") {
    const std::optional<HttpContentRange> range = parse_content_range(value);
    if (!range || (content_range && *content_range != *range)) {
      malformed = "its Content-Range cannot be read";
      return;
    }
    content_range = range;
  } else if (name == "etag") {
    keep(etag, value);
  } else if (name == "last-modified") {
    keep(last_modified, value);
  } else if (name == "content-type") {
    keep(content_type, lower_text(without_blanks(value.substr(0, value.find(';')))));
  } else if (name == "content-encoding") {
    keep(content_encoding, lower_text(value));
  } else if (name == "location") {
    keep(location, value);
  } else if (name == "retry-after") {
    keep(retry_after, value);
  } else if (name == "x-amz-version-id") {
    keep(version_id, value);
  }
}

void HttpHead::add_line(std::string_view line) {
  line = without_blanks(line);
  if (line.empty()) return;
  bytes_ += line.size();
  if (bytes_ > kMostBytes) {
    malformed = "its header is too long";
    return;
  }
  if (line.starts_with("HTTP/")) {
    const size_t bytes = bytes_;
    *this = HttpHead();
    bytes_ = bytes;
    const size_t blank = line.find(' ');
    const std::string_view code = blank == std::string_view::npos ? "" : line.substr(blank + 1, 3);
    status = static_cast<int>(parse_count(code).value_or(0));
    if (status < 100 || status > 599) malformed = "its status line cannot be read";
    return;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  add_header(lower_text(line.substr(0, colon)), without_blanks(line.substr(colon + 1)));
}

}  // namespace blobcache::net
