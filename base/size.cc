#include "base/size.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>

namespace blobcache::base {
namespace {

struct Unit {
  std::string_view name;
  uint64_t bytes;
};

constexpr uint64_t kKi = 1024;
constexpr uint64_t kK = 1000;
constexpr std::array kUnits = {
    Unit{"", 1},
    Unit{"b", 1},
    Unit{"k", kKi},
    Unit{"m", kKi* kKi},
    Unit{"g", kKi* kKi* kKi},
    Unit{"t", kKi* kKi* kKi* kKi},
    Unit{"p", kKi* kKi* kKi* kKi* kKi},
    Unit{"kib", kKi},
    Unit{"mib", kKi* kKi},
    Unit{"gib", kKi* kKi* kKi},
    Unit{"tib", kKi* kKi* kKi* kKi},
    Unit{"pib", kKi* kKi* kKi* kKi* kKi},
    Unit{"kb", kK},
    Unit{"mb", kK* kK},
    Unit{"gb", kK* kK* kK},
    Unit{"tb", kK* kK* kK* kK},
    Unit{"pb", kK* kK* kK* kK* kK},
};

absl::Status bad_size(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("bad size \"{}\": {}", text, why));
}

std::string_view strip(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

/// All of `text` as a number, or false.
template <typename Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

absl::StatusOr<uint64_t> scale(std::string_view text, std::string_view number,
                               uint64_t unit_bytes) {
  uint64_t whole = 0;
  if (parse_number(number, whole)) {
    if (whole > std::numeric_limits<uint64_t>::max() / unit_bytes)
      return bad_size(text, "too large");
    return whole * unit_bytes;
  }
  double fraction = 0;
  if (!parse_number(number, fraction)) return bad_size(text, "not a number, or too large");
  const double bytes = fraction * static_cast<double>(unit_bytes);
  constexpr double kLargest = 18446744073709549568.0;  // the last double below 2^64
  if (bytes > kLargest) return bad_size(text, "too large");
  return static_cast<uint64_t>(bytes);
}

}  // namespace

absl::StatusOr<uint64_t> parse_size(std::string_view text) {
  const std::string_view trimmed = strip(text);
  const size_t digits = std::min(trimmed.find_first_not_of("0123456789."), trimmed.size());
  const std::string_view number = trimmed.substr(0, digits);
  const std::string unit_name = to_lower(strip(trimmed.substr(digits)));
  if (number.empty()) return bad_size(text, "a number must come first, as in \"64MiB\"");
  for (const Unit& unit : kUnits) {
    if (unit.name == unit_name) return scale(text, number, unit.bytes);
  }
  return bad_size(text, "unknown unit; use KiB, MiB, GiB, TiB or PiB");
}

std::string format_size(uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < kKi) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kNames.size()) {
    value /= 1024.0;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kNames.at(unit));
}

}  // namespace blobcache::base
