#include "net/impl/http_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "base/http_url.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

absl::Status no_index() {
  return absl::UnimplementedError("the server does not list this folder in a way that is known");
}

absl::Status index_too_long(size_t most) {
  return base::error(absl::StatusCode::kResourceExhausted,
                     fmt::format("the server lists more than {} names", most));
}

char lower_char(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// Where `word`, in lower case, is found from `from` on in any case.
size_t find_any_case(std::string_view text, std::string_view word, size_t from = 0) {
  const auto at = std::search(
      text.begin() + static_cast<std::ptrdiff_t>(std::min(from, text.size())), text.end(),
      word.begin(), word.end(), [](char a, char b) { return lower_char(a) == b; });
  return at == text.end() ? std::string_view::npos : static_cast<size_t>(at - text.begin());
}

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

/// What an entity stands for, `name` being what is between & and ;.
std::optional<std::string> entity(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kNamed = {
      {{"amp", "&"},
       {"lt", "<"},
       {"gt", ">"},
       {"quot", "\""},
       {"apos", "'"},
       {"nbsp", "\xc2\xa0"}}};
  for (const auto& [known, text] : kNamed) {
    if (name == known) return std::string(text);
  }
  if (!name.starts_with('#')) return std::nullopt;
  name.remove_prefix(1);
  const bool is_hex = name.starts_with('x') || name.starts_with('X');
  if (is_hex) name.remove_prefix(1);
  uint32_t code = 0;
  const auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), code, is_hex ? 16 : 10);
  const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (error != std::errc() || end != name.data() + name.size() || code == 0 || code > 0x10FFFF ||
      is_surrogate) {
    return std::nullopt;
  }
  std::string out;
  append_utf8(out, code);
  return out;
}

/// The value of href in the inside of a tag.
std::optional<std::string_view> href_of(std::string_view tag) {
  size_t at = find_any_case(tag, "href");
  if (at == std::string_view::npos) return std::nullopt;
  at = tag.find_first_not_of(" \t\r\n", at + 4);
  if (at == std::string_view::npos || tag[at] != '=') return std::nullopt;
  at = tag.find_first_not_of(" \t\r\n", at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  const char quote = tag[at];
  if (quote != '"' && quote != '\'') return tag.substr(at, tag.find_first_of(" \t\r\n", at) - at);
  const size_t end = tag.find(quote, at + 1);
  if (end == std::string_view::npos) return std::nullopt;
  return tag.substr(at + 1, end - at - 1);
}

/// What a link of the folder at `path` leads to, if that is directly beneath it.
std::optional<HttpIndexEntry> child(std::string_view link, std::string_view path) {
  if (link.empty() || link.find_first_of("?#") != std::string_view::npos) return std::nullopt;
  std::optional<std::string> target = base::unescape_url(link);
  if (!target) return std::nullopt;
  std::string_view rest = *target;
  if (rest.starts_with('/')) {
    const std::optional<std::string> folder = base::unescape_url(path);
    if (!folder || !rest.starts_with(*folder)) return std::nullopt;
    rest.remove_prefix(folder->size());
  } else if (rest.starts_with("./")) {
    rest.remove_prefix(2);
  } else if (link.find(':') < link.find('/')) {
    return std::nullopt;  // a scheme: a name with a colon is written ./name or escaped
  }
  HttpIndexEntry entry;
  entry.is_folder = rest.ends_with('/');
  if (entry.is_folder) rest.remove_suffix(1);
  if (!tree::check_name(rest).ok()) return std::nullopt;
  entry.name = std::string(rest);
  return entry;
}

/// Collects names of {"name": ..., "type": ...} in one array; keeps nothing else, however large or
/// deep it is.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexReader(size_t most) : most_(most) {}

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return false; }
  bool string(string_t& value) override {
    if (depth_ != 2) return depth_ > 0;
    if (key_ == "name") {
      name_ = std::move(value);
    } else if (key_ == "type") {
      type_ = std::move(value);
    }
    return true;
  }
  bool key(string_t& value) override {
    if (depth_ == 2) key_ = std::move(value);
    return true;
  }
  bool start_array(size_t /*size*/) override {
    is_list_ = is_list_ || depth_ == 0;
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool start_object(size_t /*size*/) override {
    if (depth_ == 0) return false;
    if (++depth_ == 2) name_ = type_ = key_ = "";
    return true;
  }
  bool end_object() override {
    if (depth_-- != 2) return true;
    if (type_ != "file" && type_ != "directory") return true;
    if (!tree::check_name(name_).ok()) return true;
    if (entries.size() == most_) {
      is_too_long = true;
      return false;
    }
    entries.push_back({std::move(name_), type_ == "directory"});
    return true;
  }
  bool parse_error(size_t /*at*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

  [[nodiscard]] bool is_list() const { return is_list_; }

  std::vector<HttpIndexEntry> entries;
  bool is_too_long = false;

 private:
  const size_t most_;
  size_t depth_ = 0;
  bool is_list_ = false;
  std::string key_;
  std::string name_;
  std::string type_;
};

}  // namespace

std::string decode_entities(std::string_view text) {
  constexpr size_t kLongest = 10;
  std::string out;
  while (!text.empty()) {
    const size_t at = text.find('&');
    out += text.substr(0, at);
    if (at == std::string_view::npos) break;
    text.remove_prefix(at);
    const size_t end = text.substr(0, kLongest).find(';');
    const std::optional<std::string> stands_for =
        end == std::string_view::npos ? std::nullopt : entity(text.substr(1, end - 1));
    out += stands_for ? *stands_for : "&";
    text.remove_prefix(stands_for ? end + 1 : 1);
  }
  return out;
}

absl::StatusOr<std::vector<HttpIndexEntry>> parse_index_html(std::string_view page,
                                                             std::string_view path, size_t most) {
  const size_t title = find_any_case(page, "<title>");
  const std::string_view heading =
      title == std::string_view::npos ? "" : page.substr(title + 7, 64);
  const bool is_index = find_any_case(heading, "index of ") != std::string_view::npos ||
                        find_any_case(heading, "directory listing for ") != std::string_view::npos;
  if (!is_index) return no_index();
  std::vector<HttpIndexEntry> entries;
  absl::flat_hash_set<std::string> seen;
  for (size_t at = find_any_case(page, "<a ", title); at != std::string_view::npos;
       at = find_any_case(page, "<a ", at)) {
    const size_t end = page.find('>', at);
    if (end == std::string_view::npos) break;
    const std::optional<std::string_view> href = href_of(page.substr(at + 3, end - at - 3));
    at = end;
    std::optional<HttpIndexEntry> entry = href ? child(decode_entities(*href), path) : std::nullopt;
    if (!entry || !seen.insert(entry->name).second) continue;
    if (entries.size() == most) return index_too_long(most);
    entries.push_back(*std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::vector<HttpIndexEntry>> parse_index_json(std::string_view text, size_t most) {
  IndexReader reader(most);
  const bool is_read = nlohmann::json::sax_parse(text, &reader);
  if (reader.is_too_long) return index_too_long(most);
  if (!is_read || !reader.is_list()) return no_index();
  return std::move(reader.entries);
}

}  // namespace blobcache::net
