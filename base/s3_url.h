#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace blobcache::base {

/// A bucket, and the folder of it that is meant. Value type.
struct S3Url {
  std::string bucket;
  std::string prefix;  ///< as keys have it, not escaped; "" or ending with a slash

  friend bool operator==(const S3Url&, const S3Url&) = default;

  /// One text for one meaning.
  [[nodiscard]] std::string to_string() const;
};

/// s3://BUCKET[/PREFIX/]; a slash at the end is added where there is none. The bucket is 3 to 63
/// lower-case letters, digits, dots and hyphens (and, as old ones have them, underscores).
/// INVALID_ARGUMENT with the reason for anything else.
[[nodiscard]] absl::StatusOr<S3Url> parse_s3_url(std::string_view url);

}  // namespace blobcache::base
