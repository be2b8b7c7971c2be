#include "server/config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <utility>
#include <variant>

#include "absl/types/span.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "server/config_keys.h"
#include "server/impl/config_checks.h"
#include "server/impl/config_value.h"

namespace blobcache::server {
namespace {

/// No configuration is longer; a wrong path (a disk image, a log) is noticed before it is read
/// whole.
constexpr size_t kMaxFileBytes = size_t{1} << 20;
/// What stands in no line of the file comes after all that does.
constexpr uint32_t kNoLine = std::numeric_limits<uint32_t>::max();
constexpr std::string_view kOverride = "--set";

/// Text from outside as it may stand in a message of one line.
std::string printable(std::string_view text) {
  constexpr size_t kLongest = 200;
  std::string shown(text.substr(0, kLongest));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text.size() > kLongest ? shown + "..." : shown;
}

std::string suggestion(std::string_view word, const std::vector<std::string_view>& known) {
  const std::string_view nearest = nearest_word(word, known);
  return nearest.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", nearest);
}

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    if (names.empty() || names.back() != key.section) names.push_back(key.section);
  }
  return names;
}

std::vector<std::string_view> key_names(std::string_view section) {
  std::vector<std::string_view> names;
  for (const ConfigKey& key : section == "origin" ? origin_keys() : config_keys()) {
    if (key.section == section) names.push_back(key.name);
  }
  return names;
}

/// What a key of an origin is known by: "origin[0].url".
std::string origin_key_name(size_t index, std::string_view name) {
  return fmt::format("origin[{}].{}", index, name);
}

ConfigValue value_of_array(const toml::array& array) {
  std::vector<std::string> strings;
  for (const toml::node& element : array) {
    const auto* text = element.as_string();
    if (text == nullptr) return {ConfigValue::Other{"a list of other things"}};
    strings.push_back(text->get());
  }
  return {std::move(strings)};
}

ConfigValue value_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return {text->get()};
  if (const auto* number = node.as_integer()) return {number->get()};
  if (const auto* flag = node.as_boolean()) return {flag->get()};
  if (const auto* array = node.as_array()) return value_of_array(*array);
  if (node.is_table()) return {ConfigValue::Other{"a table"}};
  if (node.is_floating_point()) return {ConfigValue::Other{"a fraction"}};
  return {ConfigValue::Other{"a date or time"}};
}

/// toml++ reports errors by exceptions; they stop here.
std::variant<toml::table, std::string> parse_toml(std::string_view text, std::string_view name) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    return fmt::format("{}:{}:{}: {}", name, at.line, at.column, printable(error.description()));
  } catch (const std::exception& error) {
    return fmt::format("{}: {}", name, printable(error.what()));
  }
}

/// One reading of a configuration: collects values, where each came from, and problems.
class Reader {
 public:
  void read_toml(std::string_view text, std::string_view file_name);
  void read_override(std::string_view text);
  [[nodiscard]] ConfigResult finish();

 private:
  void read_section(std::string_view name, const toml::node& node, uint32_t line);
  void read_key(std::string_view section, std::string_view name, const toml::node& node,
                uint32_t line);
  void read_origins(const toml::node& node, uint32_t line);
  void read_origin(const toml::table& table);
  void set(const ConfigKey& key, const ConfigValue& value, const std::string& where, uint32_t line);
  /// A key whose value is right by itself and yet cannot be.
  [[nodiscard]] std::string judged(std::string_view full_name, const std::string& what) const;
  void report(std::string text) { problems_.emplace(kNoLine, std::move(text)); }
  void report_at(uint32_t line, std::string_view what) {
    problems_.emplace(line, fmt::format("{}:{}: {}", file_name_, line, what));
  }

  Config config_;
  std::string file_name_;
  std::map<std::string, std::string, std::less<>> where_;  ///< by a key's full name
  /// By line, for toml++ has tables in alphabetical order and people read from the top.
  std::multimap<uint32_t, std::string> problems_;
};

void Reader::read_toml(std::string_view text, std::string_view file_name) {
  file_name_ = file_name;
  const auto parsed = parse_toml(text, file_name);
  if (const auto* failure = std::get_if<std::string>(&parsed)) {
    report(*failure);
    return;
  }
  for (auto&& [name, node] : std::get<toml::table>(parsed)) {
    read_section(name.str(), node, name.source().begin.line);
  }
}

void Reader::read_section(std::string_view name, const toml::node& node, uint32_t line) {
  if (name == "origin") return read_origins(node, line);
  const std::vector<std::string_view> known = section_names();
  const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
  if (!is_known && !node.is_table()) {
    report_at(line, fmt::format("{}: a key outside of a section", printable(name)));
    return;
  }
  if (!is_known) {
    report_at(line,
              fmt::format("[{}]: unknown section{}", printable(name), suggestion(name, known)));
    return;
  }
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    report_at(line, fmt::format("{}: must be a section, written [{}]", name, name));
    return;
  }
  for (auto&& [key, value] : *table) read_key(name, key.str(), value, key.source().begin.line);
}

void Reader::read_key(std::string_view section, std::string_view name, const toml::node& node,
                      uint32_t line) {
  const ConfigKey* key = find_config_key(section, name);
  if (key == nullptr) {
    report_at(line, fmt::format("{}.{}: unknown key{}", section, printable(name),
                                suggestion(name, key_names(section))));
    return;
  }
  set(*key, value_of(node), fmt::format("{}:{}", file_name_, line), line);
}

void Reader::set(const ConfigKey& key, const ConfigValue& value, const std::string& where,
                 uint32_t line) {
  where_[key.full_name()] = where;
  if (const absl::Status parsed = key.parse(key, value, config_); !parsed.ok()) {
    problems_.emplace(
        line, fmt::format("{}: {}: {}", where, key.full_name(), printable(base::message(parsed))));
  }
}

void Reader::read_origins(const toml::node& node, uint32_t line) {
  const toml::array* const origins = node.as_array();
  const bool are_tables = origins != nullptr && origins->is_homogeneous<toml::table>();
  if (!are_tables) return report_at(line, "origin: must be sections, each written [[origin]]");
  for (const toml::node& origin : *origins) read_origin(*origin.as_table());
}

void Reader::read_origin(const toml::table& table) {
  const uint32_t line = table.source().begin.line;
  where_[fmt::format("origin[{}]", config_.origins.size())] =
      fmt::format("{}:{}", file_name_, line);
  config_.origins.emplace_back();
  for (auto&& [name, value] : table) {
    const uint32_t at = name.source().begin.line;
    const absl::Span<const ConfigKey> keys = origin_keys();
    const std::string_view wanted = name.str();
    const auto key = std::find_if(keys.begin(), keys.end(),
                                  [wanted](const ConfigKey& each) { return each.name == wanted; });
    if (key == keys.end()) {
      report_at(at, fmt::format("origin.{}: unknown key{}", printable(name.str()),
                                suggestion(name.str(), key_names("origin"))));
      continue;
    }
    const std::string where = fmt::format("{}:{}", file_name_, at);
    where_[origin_key_name(config_.origins.size() - 1, key->name)] = where;
    set(*key, value_of(value), where, at);
  }
}

void Reader::read_override(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    report(fmt::format("{}: \"{}\": must be KEY=VALUE, as in store.memory=2GiB", kOverride,
                       printable(text)));
    return;
  }
  const std::string_view name = text.substr(0, equals);
  const std::string_view written = text.substr(equals + 1);
  const size_t dot = std::min(name.find('.'), name.size());
  const ConfigKey* key =
      find_config_key(name.substr(0, dot), name.substr(std::min(dot + 1, name.size())));
  if (key == nullptr) {
    std::vector<std::string> full_names;
    for (const ConfigKey& each : config_keys()) full_names.push_back(each.full_name());
    const std::vector<std::string_view> known(full_names.begin(), full_names.end());
    report(
        fmt::format("{}: {}: unknown key{}", kOverride, printable(name), suggestion(name, known)));
    return;
  }
  ConfigValue value{std::string(written), /*untyped=*/true};
  // "[" begins a list, but an IPv6 address where no list is wanted.
  const std::string_view toml_starts = key->is_list ? "\"'[" : "\"'";
  if (!written.empty() && toml_starts.find(written.front()) != std::string_view::npos) {
    const auto parsed = parse_toml(fmt::format("value = {}", written), kOverride);
    const auto* table = std::get_if<toml::table>(&parsed);
    if (table == nullptr || table->size() != 1 || table->get("value") == nullptr) {
      report(fmt::format("{}: {}: not a TOML value: {}", kOverride, key->full_name(),
                         printable(written)));
      return;
    }
    value = value_of(*table->get("value"));
  }
  set(*key, value, std::string(kOverride), kNoLine);
}

std::string Reader::judged(std::string_view full_name, const std::string& what) const {
  auto where = where_.find(full_name);
  // Of an origin's key that is absent, where the origin is; and which one of them it is shows
  // there.
  const size_t bracket = full_name.find('[');
  std::string shown(full_name);
  if (bracket != std::string_view::npos) {
    const size_t dot = full_name.find('.');
    if (where == where_.end()) where = where_.find(full_name.substr(0, dot));
    shown = fmt::format("{}{}", full_name.substr(0, bracket), full_name.substr(dot));
  }
  if (where == where_.end()) return fmt::format("{}: {}", shown, what);
  return fmt::format("{}: {}: {}", where->second, shown, what);
}

ConfigResult Reader::finish() {
  ConfigResult result;
  for (auto& [line, text] : problems_) result.problems.push_back(std::move(text));
  // Keys are judged together only when each is right by itself: no problem is then a shadow of
  // another.
  if (result.problems.empty()) {
    check_config(config_, [&](std::string_view full_name, const std::string& what) {
      result.problems.push_back(judged(full_name, what));
    });
  }
  result.config = std::move(config_);
  return result;
}

absl::StatusOr<std::string> read_file(const std::filesystem::path& path) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return base::errno_error(errno, path.native());
  std::string content;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got == 0) return content;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error(errno, path.native());
    content.append(buffer.data(), static_cast<size_t>(got));
    if (content.size() > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          fmt::format("{}: too long for a configuration (over 1 MiB)", path.native()));
    }
  }
}

}  // namespace

uint64_t SizeOrShare::resolve(uint64_t whole_bytes) const {
  if (!percent.has_value()) return bytes;
  if (*percent >= 100) return whole_bytes;
  return static_cast<uint64_t>(static_cast<double>(whole_bytes) * (*percent / 100));
}

ConfigResult parse_config(std::string_view toml, std::string_view file_name,
                          const std::vector<std::string>& overrides) {
  Reader reader;
  reader.read_toml(toml, file_name);
  for (const std::string& text : overrides) reader.read_override(text);
  return reader.finish();
}

ConfigResult read_config(const ConfigSources& sources) {
  if (!sources.file.has_value()) return parse_config("", "defaults", sources.overrides);
  const absl::StatusOr<std::string> content = read_file(*sources.file);
  if (content.ok()) return parse_config(*content, sources.file->native(), sources.overrides);
  return {Config{}, {printable(base::message(content.status()))}};
}

absl::StatusOr<Config> load_config(const ConfigSources& sources) {
  ConfigResult result = read_config(sources);
  if (result.problems.empty()) return std::move(result.config);
  return absl::InvalidArgumentError(result.problems.front());
}

std::string config_to_toml(const Config& config) {
  std::string toml;
  std::string_view section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section != section) {
      toml += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", key.section);
      section = key.section;
    }
    const std::string value = key.print(config);
    toml += value.empty() ? fmt::format("# {} is absent\n", key.name)
                          : fmt::format("{} = {}\n", key.name, value);
  }
  for (const Config::Origin& origin : config.origins) {
    Config alone;
    alone.origins = {origin};
    toml += "\n[[origin]]\n";
    for (const ConfigKey& key : origin_keys()) {
      const std::string value = key.print(alone);
      toml += value.empty() ? fmt::format("# {} is absent\n", key.name)
                            : fmt::format("{} = {}\n", key.name, value);
    }
  }
  return toml;
}

}  // namespace blobcache::server
