// What HTTP and S3 servers say: heads, and listings in HTML, JSON and XML. The first byte says
// which.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/impl/http_head.h"
#include "net/impl/http_index.h"
#include "net/impl/http_judge.h"
#include "net/impl/http_version.h"
#include "net/impl/s3_listing.h"
#include "store/tree/path.h"

namespace blobcache::net {
namespace {

constexpr size_t kMost = 64;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_index(const absl::StatusOr<std::vector<HttpIndexEntry>>& entries) {
  if (!entries.ok()) return;
  require(entries->size() <= kMost);
  for (const HttpIndexEntry& each : *entries) {
    require(tree::check_name(each.name).ok());
  }
}

void check_head(std::string_view text) {
  HttpHead head;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    head.add_line(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
  }
  if (head.content_range && head.content_range->first) {
    require(*head.content_range->first <= *head.content_range->last);
  }
  require(head.etag.size() <= HttpHead::kMostValue);
  const auto failure = judge_status(head, absl::UnixEpoch());
  if (failure && failure->wait) require(*failure->wait >= absl::ZeroDuration());
  const HttpVersion version{head.content_length.value_or(0), head.etag, head.last_modified, ""};
  for (const std::string& line : version.conditions()) {
    require(line.find_first_of("\r\n") == std::string::npos);
  }
  (void)version.differs(head);
}

void check_reply(unsigned kind, std::string_view text) {
  switch (kind % 4) {
    case 0:
      check_head(text);
      break;
    case 1:
      check_index(parse_index_html(text, "/a/", kMost));
      break;
    case 2:
      check_index(parse_index_json(text, kMost));
      break;
    default: {
      const auto page = parse_list_objects(text, kMost);
      if (page.ok()) require(page->objects.size() + page->prefixes.size() <= kMost);
      require(s3_error_code(text).size() <= 64);
    }
  }
}

}  // namespace
}  // namespace blobcache::net

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  blobcache::net::check_reply(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
