#include "server/impl/config_value.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "base/size.h"
#include "base/status.h"

namespace blobcache::server {
namespace {

absl::Status bad(std::string reason) { return absl::InvalidArgumentError(reason); }

std::string_view type_of(const ConfigValue& value) {
  constexpr std::array<std::string_view, 4> kNames = {"a string", "a number", "a boolean",
                                                      "a list"};
  if (const auto* other = std::get_if<ConfigValue::Other>(&value.data)) return other->what;
  return kNames.at(value.data.index());
}

absl::Status wrong_type(const ConfigValue& value, std::string_view wanted) {
  return bad(fmt::format("must be {}, not {}", wanted, type_of(value)));
}

/// The text of a string value, or nullptr.
const std::string* text_of(const ConfigValue& value) {
  return std::get_if<std::string>(&value.data);
}

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

/// `range` says the bounds in the key's own unit.
absl::Status check_range(const ConfigKey& key, uint64_t number, std::string_view shown,
                         std::string (*format)(uint64_t)) {
  if (number < key.min) {
    return bad(fmt::format("{} is too little; at least {}", shown, format(key.min)));
  }
  if (number > key.max) {
    return bad(fmt::format("{} is too much; at most {}", shown, format(key.max)));
  }
  return absl::OkStatus();
}

std::string format_count(uint64_t count) { return fmt::format("{}", count); }

std::string format_milliseconds(uint64_t milliseconds) {
  return absl::FormatDuration(absl::Milliseconds(milliseconds));
}

absl::StatusOr<double> parse_percent(std::string_view text) {
  double percent = 0;
  std::string_view number = text.substr(0, text.size() - 1);
  if (number.ends_with(' ')) number.remove_suffix(1);  // "60 %", as "64 MiB" may be written
  if (!parse_number(number, percent) || !std::isfinite(percent)) {
    return bad(fmt::format("bad share \"{}\": a number must come before \"%\"", text));
  }
  if (percent < 0 || percent > 100) {
    return bad(fmt::format("bad share \"{}\": must be from 0% to 100%", text));
  }
  return percent;
}

/// The strings of a list, in whichever way it was written.
absl::StatusOr<std::vector<std::string>> strings_of(const ConfigValue& value) {
  if (const auto* list = std::get_if<std::vector<std::string>>(&value.data)) return *list;
  const std::string* text = text_of(value);
  if (text == nullptr || !value.untyped) {
    return wrong_type(value, "a list of strings such as [\"a\", \"b\"]");
  }
  std::vector<std::string> strings;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    strings.emplace_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return strings;
}

bool kernel_chooses_port(const base::ListenAddress& address) {
  return address.kind == base::ListenAddress::Kind::kTcp && address.port == 0;
}

template <typename Choice>
struct Named {
  std::string_view name;
  Choice choice;
};

constexpr std::array kDirectIoModes = {Named<DirectIoMode>{"auto", DirectIoMode::kAuto},
                                       Named<DirectIoMode>{"on", DirectIoMode::kOn},
                                       Named<DirectIoMode>{"off", DirectIoMode::kOff}};
constexpr std::array kPassthroughModes = {Named<PassthroughMode>{"auto", PassthroughMode::kAuto},
                                          Named<PassthroughMode>{"on", PassthroughMode::kOn},
                                          Named<PassthroughMode>{"off", PassthroughMode::kOff}};
constexpr std::array kLogLevels = {
    Named<LogLevel>{"debug", LogLevel::kDebug}, Named<LogLevel>{"info", LogLevel::kInfo},
    Named<LogLevel>{"warning", LogLevel::kWarning}, Named<LogLevel>{"error", LogLevel::kError}};

template <typename Choice, size_t N>
absl::Status parse_choice(const ConfigValue& value, const std::array<Named<Choice>, N>& choices,
                          Choice& out) {
  std::string known;
  const std::string* text = text_of(value);
  for (const Named<Choice>& named : choices) {
    if (text != nullptr && *text == named.name) {
      out = named.choice;
      return absl::OkStatus();
    }
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", named.name);
  }
  if (text == nullptr) return wrong_type(value, fmt::format("one of {}", known));
  return bad(fmt::format("\"{}\" is none of {}", *text, known));
}

template <typename Choice, size_t N>
std::string print_choice(Choice value, const std::array<Named<Choice>, N>& choices) {
  for (const Named<Choice>& named : choices) {
    if (named.choice == value) return fmt::format("\"{}\"", named.name);
  }
  return "\"\"";
}

std::string quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace

std::string exact_size(uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", bytes, kUnits.at(unit));
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value, bool& out) {
  if (const bool* flag = std::get_if<bool>(&value.data)) {
    out = *flag;
    return absl::OkStatus();
  }
  const std::string* text = text_of(value);
  if (text == nullptr || !value.untyped) return wrong_type(value, "true or false");
  if (*text != "true" && *text != "false") {
    return bad(fmt::format("must be true or false, not \"{}\"", *text));
  }
  out = *text == "true";
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& key, const ConfigValue& value, uint32_t& out) {
  int64_t number = 0;
  if (const int64_t* integer = std::get_if<int64_t>(&value.data)) {
    number = *integer;
  } else if (const std::string* text = text_of(value); text == nullptr || !value.untyped) {
    return wrong_type(value, "a whole number");
  } else if (!parse_number(*text, number)) {
    return bad(fmt::format("must be a whole number, not \"{}\"", *text));
  }
  if (number < 0) return bad(fmt::format("{} is negative", number));
  BLOBCACHE_RETURN_IF_ERROR(
      check_range(key, static_cast<uint64_t>(number), fmt::format("{}", number), &format_count));
  if (number > std::numeric_limits<uint32_t>::max()) return bad("too large");
  out = static_cast<uint32_t>(number);
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& key, const ConfigValue& value, uint64_t& out) {
  const std::string* text = text_of(value);
  if (text == nullptr) return wrong_type(value, "a size such as \"64MiB\"");
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t bytes, base::parse_size(*text));
  BLOBCACHE_RETURN_IF_ERROR(check_range(key, bytes, *text, &exact_size));
  out = bytes;
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& key, const ConfigValue& value, SizeOrShare& out) {
  const std::string* text = text_of(value);
  if (text == nullptr)
    return wrong_type(value, "a size such as \"64MiB\" or a share such as \"60%\"");
  if (text->ends_with('%')) {
    BLOBCACHE_ASSIGN_OR_RETURN(const double percent, parse_percent(*text));
    if (key.min > 0 && percent == 0) return bad("0% is too little");
    out = {0, percent};
    return absl::OkStatus();
  }
  uint64_t bytes = 0;
  BLOBCACHE_RETURN_IF_ERROR(parse_value(key, value, bytes));
  out = {bytes, std::nullopt};
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& key, const ConfigValue& value, absl::Duration& out) {
  const std::string* text = text_of(value);
  if (text == nullptr) return wrong_type(value, "a duration such as \"5s\"");
  absl::Duration duration;
  if (!absl::ParseDuration(absl::string_view(text->data(), text->size()), &duration)) {
    return bad(fmt::format(
        "bad duration \"{}\": numbers with ms, s, m or h, as in \"250ms\" or \"1h30m\"", *text));
  }
  if (duration < absl::ZeroDuration() || duration == absl::InfiniteDuration()) {
    return bad(fmt::format("bad duration \"{}\": must be finite and not negative", *text));
  }
  const auto milliseconds = static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
  BLOBCACHE_RETURN_IF_ERROR(check_range(key, milliseconds, *text, &format_milliseconds));
  out = duration;
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value, std::string& out) {
  const std::string* text = text_of(value);
  if (text == nullptr) return wrong_type(value, "a string");
  if (text->find('\0') != std::string::npos) return bad("must not contain a NUL byte");
  out = *text;
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                         std::filesystem::path& out) {
  std::string text;
  BLOBCACHE_RETURN_IF_ERROR(parse_value(key, value, text));
  if (key.min > 0 && text.empty()) return bad("must not be empty");
  if (key.wants_absolute && !text.empty() && !text.starts_with('/')) {
    return bad(fmt::format("\"{}\": must be an absolute path (begin with a slash)", text));
  }
  out = text;
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value,
                         std::vector<std::string>& out) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<std::string> strings, strings_of(value));
  for (const std::string& text : strings) {
    if (text.empty()) return bad("an empty string in the list");
    if (text.find('\0') != std::string::npos) return bad("must not contain a NUL byte");
  }
  out = std::move(strings);
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value,
                         std::vector<base::ListenAddress>& out) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<std::string> strings, strings_of(value));
  std::vector<base::ListenAddress> addresses;
  for (const std::string& text : strings) {
    BLOBCACHE_ASSIGN_OR_RETURN(base::ListenAddress address, base::parse_listen_address(text));
    for (const base::ListenAddress& earlier : addresses) {
      if (earlier == address && !kernel_chooses_port(address)) {
        return bad(fmt::format("{} twice", text));
      }
    }
    addresses.push_back(std::move(address));
  }
  out = std::move(addresses);
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value,
                         std::optional<base::ListenAddress>& out) {
  const std::string* text = text_of(value);
  if (text == nullptr) return wrong_type(value, "an address such as \"127.0.0.1:9440\"");
  if (text->empty()) {
    out.reset();
    return absl::OkStatus();
  }
  if (text->starts_with("unix:")) {
    return bad(fmt::format("bad address \"{}\": only TCP (\"HOST:PORT\") is served here", *text));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(
      out, base::parse_listen_address(text->starts_with("tcp:") ? *text : "tcp:" + *text));
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value, DirectIoMode& out) {
  return parse_choice(value, kDirectIoModes, out);
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value, PassthroughMode& out) {
  BLOBCACHE_RETURN_IF_ERROR(parse_choice(value, kPassthroughModes, out));
  if (out == PassthroughMode::kOn && !can_pass_through()) {
    return bad("this program was built with a libfuse that has no passthrough, which 3.17 has");
  }
  return absl::OkStatus();
}

absl::Status parse_value(const ConfigKey& /*key*/, const ConfigValue& value, LogLevel& out) {
  return parse_choice(value, kLogLevels, out);
}

std::string print_value(bool value) { return value ? "true" : "false"; }

std::string print_value(uint32_t value) { return fmt::format("{}", value); }

std::string print_value(uint64_t value) { return quote(exact_size(value)); }

std::string print_value(const SizeOrShare& value) {
  return value.percent.has_value() ? fmt::format("\"{}%\"", *value.percent)
                                   : print_value(value.bytes);
}

std::string print_value(absl::Duration value) { return quote(absl::FormatDuration(value)); }

std::string print_value(const std::string& value) { return quote(value); }

std::string print_value(const std::filesystem::path& value) {
  return value.empty() ? "" : quote(value.native());
}

std::string print_value(const std::vector<std::string>& value) {
  std::string list;
  for (const std::string& text : value) list += (list.empty() ? "" : ", ") + quote(text);
  return fmt::format("[{}]", list);
}

std::string print_value(const std::vector<base::ListenAddress>& value) {
  std::vector<std::string> texts;
  for (const base::ListenAddress& address : value) texts.push_back(address.to_string());
  return print_value(texts);
}

std::string print_value(const std::optional<base::ListenAddress>& value) {
  return quote(value.has_value() ? value->to_string().substr(std::string_view("tcp:").size()) : "");
}

std::string print_value(DirectIoMode value) { return print_choice(value, kDirectIoModes); }

std::string print_value(PassthroughMode value) { return print_choice(value, kPassthroughModes); }

std::string print_value(LogLevel value) { return print_choice(value, kLogLevels); }

bool can_pass_through() { return BLOBCACHE_HAS_PASSTHROUGH == 1; }

}  // namespace blobcache::server
