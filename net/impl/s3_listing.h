#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "net/impl/http_version.h"

namespace blobcache::net {

/// An object that a listing has. Value type.
struct S3Object {
  std::string key;
  /// As the head of a reply would tell it: the time in the form of a header, to the second.
  HttpVersion version;
};

/// One reply to ListObjectsV2. Value type.
struct S3Page {
  std::vector<S3Object> objects;
  std::vector<std::string> prefixes;  ///< each ends with the delimiter
  bool is_truncated = false;
  std::string next;  ///< continuation-token for the next page
};

/// Reads one. INVALID_ARGUMENT with the reason for what is no such document: another root, tags
/// that do not match, a document type, more than `most` objects and prefixes, depths beyond 16.
[[nodiscard]] absl::StatusOr<S3Page> parse_list_objects(std::string_view xml, size_t most);

/// The Code of an error document, a word of letters and digits; "" where there is none.
[[nodiscard]] std::string s3_error_code(std::string_view xml);

}  // namespace blobcache::net
