#include "store/tree/impl/description.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "base/hex.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/digest.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr std::string_view kVersionLine = "blobcache 2";
constexpr std::string_view kPinned = "pinned";
constexpr std::string_view kNotPinned = "not pinned";
constexpr std::string_view kPinnedLine = "pinned\n";
constexpr std::string_view kMoreLine = "more names";
constexpr mode_t kPermissionBits = 07777;

bool is_plain(char c) { return c > 0x20 && c < 0x7f && c != '%'; }

/// Bytes that would end a line or not print, and the escape itself, become %HH.
std::string percent_encode(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (is_plain(c)) {
      text += c;
    } else {
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string path;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      if (!is_plain(text[at])) return std::nullopt;
      path += text[at];
      continue;
    }
    uint8_t byte = 0;
    if (!base::from_hex(text.substr(at + 1, 2), absl::MakeSpan(&byte, 1))) return std::nullopt;
    path += static_cast<char>(byte);
    at += 2;
  }
  return path;
}

/// All of `text` as a number of digits of `radix`, at most `max`; no sign, no spaces.
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max, int radix = 10) {
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, radix);
  if (error != std::errc() || stop != end || number > max) return std::nullopt;
  return number;
}

/// Cuts what precedes `separator` off the front of `text`; nullopt when there is no separator.
std::optional<std::string_view> take_until(std::string_view& text, char separator) {
  const size_t length = text.find(separator);
  if (length == std::string_view::npos) return std::nullopt;
  const std::string_view taken = text.substr(0, length);
  text.remove_prefix(length + 1);
  return taken;
}

/// "WORD REST" gives REST.
std::optional<std::string_view> after_word(std::string_view line, std::string_view word) {
  if (!line.starts_with(word) || line.size() <= word.size() || line[word.size()] != ' ') {
    return std::nullopt;
  }
  return line.substr(word.size() + 1);
}

absl::Status damaged(std::string_view why) {
  return absl::DataLossError(fmt::format("its description {}", why));
}

absl::StatusOr<std::string> parse_path(std::string_view text) {
  std::optional<std::string> path = percent_decode(text);
  if (!path) return damaged("has a name that is not encoded rightly");
  const absl::StatusOr<PathNames> names = split_path(*path);
  if (!names.ok()) {
    return damaged(fmt::format("has a wrong name: {}", base::message(names.status())));
  }
  if (path->starts_with('/') || !check_bindable(*names).ok()) {
    return damaged("has a name that is not beneath files/");
  }
  return *std::move(path);
}

std::string format_name(const DescribedName& name) {
  return fmt::format("name {:o} {} {} {} {}", name.mode, name.uid, name.gid,
                     std::max<int64_t>(0, absl::ToUnixNanos(name.modified)),
                     percent_encode(name.path));
}

/// "MODE UID GID NANOSECONDS PATH".
absl::StatusOr<DescribedName> parse_name(std::string_view text) {
  const auto number = [&text](uint64_t max, int radix) -> std::optional<uint64_t> {
    const std::optional<std::string_view> word = take_until(text, ' ');
    return word ? parse_number(*word, max, radix) : std::nullopt;
  };
  constexpr uint64_t kMaxId = std::numeric_limits<uint32_t>::max();
  const std::optional<uint64_t> mode = number(kPermissionBits, 8);
  const std::optional<uint64_t> uid = number(kMaxId, 10);
  const std::optional<uint64_t> gid = number(kMaxId, 10);
  const std::optional<uint64_t> modified = number(std::numeric_limits<int64_t>::max(), 10);
  if (!mode || !uid || !gid || !modified) return damaged("has a name with wrong numbers");
  BLOBCACHE_ASSIGN_OR_RETURN(std::string path, parse_path(text));
  return DescribedName{.path = std::move(path),
                       .mode = static_cast<mode_t>(*mode),
                       .uid = static_cast<uid_t>(*uid),
                       .gid = static_cast<gid_t>(*gid),
                       .modified = absl::FromUnixNanos(static_cast<int64_t>(*modified))};
}

/// The three lines that every description begins with, and the one that some have beside them.
absl::Status parse_head(std::string_view& text, Description& description) {
  const std::string_view version = take_until(text, '\n').value_or("");
  if (version != kVersionLine) {
    return damaged(version.starts_with("blobcache ") ? "is of a version that this program does not "
                                                       "read"
                                                     : "is not one of ours");
  }
  const auto digest = after_word(take_until(text, '\n').value_or(""), "digest");
  const absl::StatusOr<page::ObjectKey> key = parse_digest(digest.value_or(""));
  if (!key.ok() || format_digest(*key) != *digest) return damaged("has no right digest");
  description.key = *key;
  const auto size = after_word(take_until(text, '\n').value_or(""), "size");
  const std::optional<uint64_t> bytes = parse_number(size.value_or(""), page::kMaxObjectSize);
  if (!bytes) return damaged("has no right size");
  description.size_bytes = *bytes;
  description.pinned = text.starts_with(kPinnedLine);
  if (description.pinned) text.remove_prefix(kPinnedLine.size());
  return absl::OkStatus();
}

}  // namespace

std::optional<std::string> format_description(const Description& description) {
  std::string text = fmt::format("{}\ndigest {}\nsize {}\n", kVersionLine,
                                 format_digest(description.key), description.size_bytes);
  if (description.pinned) text += kPinnedLine;
  for (const DescribedName& name : description.names) {
    text += fmt::format("{}\n", format_name(name));
    if (text.size() > kMaxDescriptionBytes) return std::nullopt;
  }
  if (description.more_names) text += fmt::format("{}\n", kMoreLine);
  if (text.size() > kMaxDescriptionBytes) return std::nullopt;
  return text;
}

std::string format_names_elsewhere(const Description& description) {
  Description head;
  head.key = description.key;
  head.size_bytes = description.size_bytes;
  head.pinned = description.pinned;
  head.more_names = true;
  return *format_description(head);
}

absl::StatusOr<Description> parse_description(std::string_view text) {
  if (text.size() > kMaxDescriptionBytes) return damaged("is too long");
  Description description;
  BLOBCACHE_RETURN_IF_ERROR(parse_head(text, description));
  while (!text.empty()) {
    const std::optional<std::string_view> line = take_until(text, '\n');
    if (!line) return damaged("is cut short");
    if (description.more_names) return damaged("goes on after its end");
    if (*line == kMoreLine) {
      description.more_names = true;
      continue;
    }
    const std::optional<std::string_view> name = after_word(*line, "name");
    if (!name) return damaged("has a line that this program does not know");
    BLOBCACHE_ASSIGN_OR_RETURN(DescribedName parsed, parse_name(*name));
    description.names.push_back(std::move(parsed));
  }
  return description;
}

std::string format_bound(const DescribedName& name) { return format_name(name); }

std::string format_gone(std::string_view path) {
  return fmt::format("gone {}", percent_encode(path));
}

std::string format_pinned(bool pinned) { return std::string(pinned ? kPinned : kNotPinned); }

void NameReplay::take(std::string_view record) {
  if (record == kPinned || record == kNotPinned) {
    pinned_ = record == kPinned;
    return;
  }
  if (const std::optional<std::string_view> gone = after_word(record, "gone")) {
    const absl::StatusOr<std::string> path = parse_path(*gone);
    if (path.ok()) names_.erase(*path);
    whole_ = whole_ && path.ok();
    return;
  }
  const std::optional<std::string_view> bound = after_word(record, "name");
  absl::StatusOr<DescribedName> name = parse_name(bound.value_or(""));
  whole_ = whole_ && name.ok();
  if (!name.ok()) return;
  std::string path = name->path;
  names_.insert_or_assign(std::move(path), *std::move(name));
}

}  // namespace blobcache::tree
