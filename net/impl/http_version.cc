#include "net/impl/http_version.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "store/tree/digest.h"

namespace blobcache::net {

namespace {

constexpr int kPartialContent = 206;

}  // namespace

bool HttpVersion::is_strong() const {
  // Quotes inside, or bytes that end a header, are no ETag that could be sent back.
  const std::string_view tag = etag;
  if (tag.size() < 3 || tag.size() > kMostEtag || !tag.starts_with('"') || !tag.ends_with('"'))
    return false;
  return std::all_of(tag.begin() + 1, tag.end() - 1, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c != '"' && byte > 0x20 && byte != 0x7f;
  });
}

absl::Time HttpVersion::modified() const {
  return parse_http_date(last_modified).value_or(absl::InfinitePast());
}

std::vector<std::string> HttpVersion::conditions() const {
  // Who does not know If-Match may know If-Range, and then sends the whole of the other version.
  if (is_strong()) return {"If-Match: " + etag, "If-Range: " + etag};
  if (parse_http_date(last_modified)) {
    return {"If-Unmodified-Since: " + last_modified, "If-Range: " + last_modified};
  }
  return {};
}

std::string HttpVersion::differs(const HttpHead& head) const {
  std::optional<uint64_t> size = head.content_length;
  if (head.status == kPartialContent) {
    size = head.content_range ? head.content_range->total : std::nullopt;
  }
  if (!size) return "it does not tell the size of the whole";
  if (*size != size_bytes) return fmt::format("it has {} bytes, not {}", *size, size_bytes);
  if (is_strong() && head.etag.empty()) return "it does not tell its ETag any more";
  // Some servers make a weak one of a strong one on their way; that says nothing of the bytes.
  if (!head.etag.empty() && !etag.empty() && head.etag != etag) return "it has another ETag";
  // A reply to If-Range leaves it out.
  if (!head.last_modified.empty() && !last_modified.empty() && !is_strong() &&
      head.last_modified != last_modified) {
    return "it was modified at another time";
  }
  return "";
}

page::ObjectKey HttpVersion::lasting_key(std::string_view place, std::string_view path) const {
  // NUL stands in none of them, so that no two read alike.
  const std::string text = fmt::format("blobcache http version{0}{1}{0}{2}{0}{3}{0}{4}", '\0',
                                       place, path, size_bytes, etag);
  tree::Sha256 hash;
  hash.update(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
  return hash.finish();
}

}  // namespace blobcache::net
