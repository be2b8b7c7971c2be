#include "base/s3_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/http_url.h"
#include "base/status.h"
#include "base/url_escape.h"

namespace blobcache::base {

namespace {

constexpr size_t kMaxPrefixBytes = 1024;  // of a key, as S3 has it

absl::Status bad_s3_url(std::string_view why) {
  return error(absl::StatusCode::kInvalidArgument, fmt::format("an S3 url: {}", why));
}

bool is_bucket(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return name.size() >= 3 && name.size() <= 63 && is_letter(name.front()) &&
         is_letter(name.back()) && name.find("..") == std::string_view::npos &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_letter(c) || c == '-' || c == '.' || c == '_'; });
}

}  // namespace

std::string S3Url::to_string() const {
  return fmt::format("s3://{}/{}", bucket, escape_url(prefix, true));
}

absl::StatusOr<S3Url> parse_s3_url(std::string_view text) {
  constexpr std::string_view kScheme = "s3://";
  if (!text.starts_with(kScheme))
    return bad_s3_url("must be as s3://BUCKET/ or s3://BUCKET/FOLDER/");
  text.remove_prefix(kScheme.size());
  const size_t slash = text.find('/');
  S3Url url;
  url.bucket = text.substr(0, slash);
  if (!is_bucket(url.bucket)) {
    return bad_s3_url("the bucket is not 3 to 63 lower-case letters, digits, dots and hyphens");
  }
  const std::string_view rest = slash == std::string_view::npos ? "" : text.substr(slash + 1);
  if (rest.find_first_of("?#") != std::string_view::npos) {
    return bad_s3_url("a query or a fragment cannot stand in it");
  }
  const std::optional<std::string> prefix = unescape_url(rest);
  if (!prefix) return bad_s3_url("a bad escape");
  url.prefix = *prefix;
  if (!url.prefix.empty() && !url.prefix.ends_with('/')) url.prefix += '/';
  if (url.prefix.size() > kMaxPrefixBytes) return bad_s3_url("the folder has more than 1024 bytes");
  return url;
}

}  // namespace blobcache::base
