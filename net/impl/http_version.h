#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "net/impl/http_head.h"
#include "store/page/object_key.h"

namespace blobcache::net {

/// Which version of a file a server told of: its size, and by what it is known again. Value type.
struct HttpVersion {
  static constexpr size_t kMostEtag = size_t{1} << 10;

  uint64_t size_bytes = 0;
  std::string etag;           ///< as the server wrote it; "" for none
  std::string last_modified;  ///< the same
  std::string version_id;     ///< S3's, of a bucket that keeps versions; no part of what it is

  friend bool operator==(const HttpVersion& a, const HttpVersion& b) {
    return a.size_bytes == b.size_bytes && a.etag == b.etag && a.last_modified == b.last_modified;
  }

  /// A strong ETag of at most kMostEtag bytes: the same one means the same bytes, for ever.
  [[nodiscard]] bool is_strong() const;
  /// InfinitePast() where the server did not tell, or not in a way that can be read.
  [[nodiscard]] absl::Time modified() const;
  /// The header lines that ask for this version and no other, as far as it has validators.
  [[nodiscard]] std::vector<std::string> conditions() const;
  /// "" if a reply is about this version; else what tells it from it, for people. Of a whole reply
  /// (200) the size is its Content-Length, of a part the total of its Content-Range; either has to
  /// be there.
  [[nodiscard]] std::string differs(const HttpHead& head) const;
  /// Of a strong version, the same in every process; `place` is the type, origin and url.
  [[nodiscard]] page::ObjectKey lasting_key(std::string_view place, std::string_view path) const;
};

}  // namespace blobcache::net
