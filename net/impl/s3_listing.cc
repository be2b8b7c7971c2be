#include "net/impl/s3_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/http_url.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "net/impl/http_index.h"

namespace blobcache::net {

namespace {

constexpr size_t kDeepest = 16;

absl::Status bad_listing(std::string_view why) {
  return base::error(absl::StatusCode::kInvalidArgument,
                     fmt::format("the server's listing cannot be read: {}", why));
}

/// The parts of a document, in their order: tags and the text between them. As much of XML as
/// servers write; no document type, so no entities but those that are known.
class XmlScanner {
 public:
  enum class Part { kBegin, kEnd, kText, kDone, kBad };

  explicit XmlScanner(std::string_view xml) : rest_(xml) {}

  Part next() {
    while (true) {
      if (!pending_end_.empty()) {
        name_ = std::exchange(pending_end_, {});
        return Part::kEnd;
      }
      if (rest_.empty()) return Part::kDone;
      if (!rest_.starts_with('<')) return text();
      if (rest_.starts_with("<![CDATA[")) return cdata();
      if (rest_.starts_with("<!--")) {
        if (!skip_past("-->")) return Part::kBad;
      } else if (rest_.starts_with("<?")) {
        if (!skip_past("?>")) return Part::kBad;
      } else {
        return tag();
      }
    }
  }
  /// Of a tag, without a prefix of a name space.
  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] const std::string& value() const { return value_; }

 private:
  bool skip_past(std::string_view end) {
    const size_t at = rest_.find(end);
    if (at == std::string_view::npos) return false;
    rest_.remove_prefix(at + end.size());
    return true;
  }
  Part text() {
    const size_t at = std::min(rest_.find('<'), rest_.size());
    value_ = decode_entities(rest_.substr(0, at));
    rest_.remove_prefix(at);
    return Part::kText;
  }
  Part cdata() {
    constexpr size_t kOpening = 9;
    const size_t at = rest_.find("]]>");
    if (at == std::string_view::npos) return Part::kBad;
    value_ = std::string(rest_.substr(kOpening, at - kOpening));
    rest_.remove_prefix(at + 3);
    return Part::kText;
  }
  Part tag() {
    const size_t at = rest_.find('>');
    if (at == std::string_view::npos || rest_.starts_with("<!")) return Part::kBad;
    std::string_view inside = rest_.substr(1, at - 1);
    rest_.remove_prefix(at + 1);
    const bool is_end = inside.starts_with('/');
    const bool is_empty = !is_end && inside.ends_with('/');
    if (is_end) inside.remove_prefix(1);
    if (is_empty) inside.remove_suffix(1);
    name_ = inside.substr(0, inside.find_first_of(" \t\r\n"));
    name_.remove_prefix(std::min(name_.find(':') + 1, name_.size()));
    if (name_.empty()) return Part::kBad;
    if (is_empty) pending_end_ = name_;
    return is_end ? Part::kEnd : Part::kBegin;
  }

  std::string_view rest_;
  std::string_view name_;
  std::string_view pending_end_;
  std::string value_;
};

std::string as_http_date(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return "";
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", time, absl::UTCTimeZone());
}

/// As a header has it: some servers leave the quotes out here.
std::string as_etag(const std::string& text) {
  if (text.empty() || text.starts_with('"') || text.starts_with("W/")) return text;
  return fmt::format("\"{}\"", text);
}

/// With encoding-type=url a blank is a plus sign.
std::optional<std::string> decoded(std::string text) {
  std::replace(text.begin(), text.end(), '+', ' ');
  return base::unescape_url(text);
}

/// Puts a page together from what elements say.
class PageReader {
 public:
  explicit PageReader(size_t most) : most_(most) {}

  absl::Status begin(std::string_view name) {
    if (names_.empty() && name != "ListBucketResult") return bad_listing("it is something else");
    if (names_.size() == kDeepest) return bad_listing("it is too deep");
    names_.push_back(name);
    text_.clear();
    if (names_.size() == 2 && name == "Contents") object_ = S3Object();
    return absl::OkStatus();
  }
  void text(const std::string& value) { text_ += value; }
  absl::Status end(std::string_view name) {
    if (names_.empty() || names_.back() != name) return bad_listing("its tags do not match");
    names_.pop_back();
    if (names_.size() == 1) return end_of_page(name);
    if (names_.size() == 2 && names_[1] == "Contents") return end_of_object(name);
    if (names_.size() == 2 && names_[1] == "CommonPrefixes" && name == "Prefix") {
      page.prefixes.push_back(text_);
      return count();
    }
    return absl::OkStatus();
  }
  [[nodiscard]] bool is_whole() const { return names_.empty(); }

  /// What is url-encoded, which is told anywhere, as it is meant.
  absl::Status decode() {
    if (!is_encoded_) return absl::OkStatus();
    const auto decode_one = [](std::string& text) {
      std::optional<std::string> plain = decoded(std::move(text));
      text = plain.value_or("");
      return plain.has_value();
    };
    for (S3Object& each : page.objects) {
      if (!decode_one(each.key)) return bad_listing("a name has a bad escape");
    }
    for (std::string& each : page.prefixes) {
      if (!decode_one(each)) return bad_listing("a name has a bad escape");
    }
    return absl::OkStatus();
  }

  S3Page page;

 private:
  absl::Status count() {
    return page.objects.size() + page.prefixes.size() > most_ ? bad_listing("it has too many names")
                                                              : absl::OkStatus();
  }
  absl::Status end_of_page(std::string_view name) {
    if (name == "IsTruncated") page.is_truncated = text_ == "true";
    if (name == "NextContinuationToken") page.next = text_;
    if (name == "EncodingType") is_encoded_ = text_ == "url";
    if (name != "Contents") return absl::OkStatus();
    page.objects.push_back(std::move(object_));
    return count();
  }
  absl::Status end_of_object(std::string_view name) {
    if (name == "Key") object_.key = text_;
    if (name == "ETag") object_.version.etag = as_etag(text_);
    if (name == "LastModified") object_.version.last_modified = as_http_date(text_);
    if (name != "Size") return absl::OkStatus();
    uint64_t size = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
    if (error != std::errc() || end != text_.data() + text_.size() || size >> 63 != 0) {
      return bad_listing("a size is no number");
    }
    object_.version.size_bytes = size;
    return absl::OkStatus();
  }

  const size_t most_;
  std::vector<std::string_view> names_;
  std::string text_;
  S3Object object_;
  bool is_encoded_ = false;
};

}  // namespace

absl::StatusOr<S3Page> parse_list_objects(std::string_view xml, size_t most) {
  XmlScanner scanner(xml);
  PageReader reader(most);
  bool is_any = false;
  while (true) {
    switch (scanner.next()) {
      case XmlScanner::Part::kBegin:
        is_any = true;
        BLOBCACHE_RETURN_IF_ERROR(reader.begin(scanner.name()));
        break;
      case XmlScanner::Part::kEnd:
        BLOBCACHE_RETURN_IF_ERROR(reader.end(scanner.name()));
        break;
      case XmlScanner::Part::kText:
        reader.text(scanner.value());
        break;
      case XmlScanner::Part::kBad:
        return bad_listing("it is no XML of the kind that servers write");
      case XmlScanner::Part::kDone:
        if (!is_any || !reader.is_whole()) return bad_listing("it ends too early");
        BLOBCACHE_RETURN_IF_ERROR(reader.decode());
        return std::move(reader.page);
    }
  }
}

std::string s3_error_code(std::string_view xml) {
  constexpr std::string_view kOpening = "<Code>";
  constexpr size_t kLongest = 64;
  const size_t at = xml.find(kOpening);
  if (at == std::string_view::npos) return "";
  std::string_view code = xml.substr(at + kOpening.size());
  code = code.substr(0, code.find('<'));
  const bool is_code = code.size() <= kLongest && std::all_of(code.begin(), code.end(), [](char c) {
                         return std::isalnum(static_cast<unsigned char>(c)) != 0;
                       });
  return is_code ? std::string(code) : "";
}

}  // namespace blobcache::net
