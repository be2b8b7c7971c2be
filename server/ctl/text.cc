#include "server/ctl/text.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <optional>

#include "base/hex.h"

namespace blobcache::ctl {
namespace {

struct Character {
  char32_t code = 0;
  size_t bytes = 1;
};

/// The character that `text` begins with, or nothing when its first byte begins none. `text` is not
/// empty.
std::optional<Character> decode(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return Character{first, 1};
  size_t bytes = 0;
  char32_t code = 0;
  char32_t smallest = 0;
  if ((first & 0xE0U) == 0xC0) {
    bytes = 2, code = first & 0x1FU, smallest = 0x80;
  } else if ((first & 0xF0U) == 0xE0) {
    bytes = 3, code = first & 0x0FU, smallest = 0x800;
  } else if ((first & 0xF8U) == 0xF0) {
    bytes = 4, code = first & 0x07U, smallest = 0x10000;
  } else {
    return std::nullopt;
  }
  if (text.size() < bytes) return std::nullopt;
  for (size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if ((next & 0xC0U) != 0x80) return std::nullopt;
    code = code << 6U | (next & 0x3FU);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < smallest || code > 0x10FFFF || surrogate) return std::nullopt;
  return Character{code, bytes};
}

/// Control characters, and the marks with which a name could make a line read backwards.
bool is_unsafe(char32_t code) {
  return code < 0x20 || (code >= 0x7F && code <= 0x9F) || code == 0x200E || code == 0x200F ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

void append_escaped(std::string& out, std::string_view bytes) {
  for (const char c : bytes) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::optional<Character> character = decode(text);
    const std::string_view bytes = text.substr(0, character ? character->bytes : 1);
    if (!character || is_unsafe(character->code) || character->code == '\\') {
      append_escaped(out, bytes);
    } else {
      out += bytes;
    }
    text.remove_prefix(bytes.size());
  }
  return out;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::optional<Character> character = decode(text);
    if (!character) return false;
    text.remove_prefix(character->bytes);
  }
  return true;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (const char c : text) {
    if ((static_cast<uint8_t>(c) & 0xC0U) != 0x80) ++width;
  }
  return width;
}

std::string shorten(std::string_view text, size_t width) {
  if (display_width(text) <= width) return std::string(text);
  const size_t dots = width < 3 ? width : 3;
  size_t end = 0;
  for (size_t columns = 0; columns < width - dots; ++columns) {
    ++end;
    while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0U) == 0x80) ++end;
  }
  return std::string(text.substr(0, end)) + std::string(dots, '.');
}

std::string format_mode(bool directory, uint32_t mode) {
  std::string out = directory ? "d" : "-";
  constexpr std::array<char, 3> kLetters = {'r', 'w', 'x'};
  for (uint32_t bit = 0; bit < 9; ++bit) {
    out += (mode & (0400U >> bit)) != 0 ? kLetters[bit % 3] : '-';
  }
  const auto special = [&](uint32_t bit, size_t at, char with_x, char without_x) {
    if ((mode & bit) != 0) out[at] = out[at] == 'x' ? with_x : without_x;
  };
  special(04000, 3, 's', 'S');
  special(02000, 6, 's', 'S');
  special(01000, 9, 't', 'T');
  return out;
}

std::string format_digest(std::string_view bytes) {
  const void* const data = bytes.data();
  return "sha256:" + base::to_hex({static_cast<const uint8_t*>(data), bytes.size()});
}

std::string format_local_time(absl::Time time) {
  const time_t seconds = absl::ToTimeT(time);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}", local.tm_year + 1900, local.tm_mon + 1,
                     local.tm_mday, local.tm_hour, local.tm_min);
}

std::string format_utc(absl::Time time) {
  const time_t seconds = absl::ToTimeT(time);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  const int64_t fraction = absl::ToInt64Nanoseconds(time - absl::FromTimeT(seconds));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, fraction);
}

std::string format_clock(uint64_t seconds) {
  const uint64_t hours = seconds / 3600;
  const uint64_t minutes = seconds / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, seconds % 60);
  return fmt::format("{}:{:02}", minutes, seconds % 60);
}

std::string format_age(uint64_t seconds) {
  if (seconds >= 86400) return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
  if (seconds >= 3600) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  if (seconds >= 60) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} s", seconds);
}

std::string format_share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace blobcache::ctl
