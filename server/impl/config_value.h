#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "server/config_keys.h"

namespace blobcache::server {

/// A value as it was written, before a key gives it a meaning. Value type.
struct ConfigValue {
  /// Something that no key takes: a date, a table, a list of other things than strings.
  struct Other {
    std::string_view what;
  };
  std::variant<std::string, int64_t, bool, std::vector<std::string>, Other> data;
  /// It was typed on a command line without TOML's quotes, so that its type is the key's to say: a
  /// string then stands for any type.
  bool untyped = false;
};

// Each reads a value into `out`, within the key's bounds. INVALID_ARGUMENT with the reason; `out`
// is then as before.
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value, bool& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       uint32_t& out);
/// A size in bytes.
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       uint64_t& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       SizeOrShare& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       absl::Duration& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       std::string& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       std::filesystem::path& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       std::vector<std::string>& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       std::vector<base::ListenAddress>& out);
/// One TCP address, "tcp:" optional; "" for none.
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       std::optional<base::ListenAddress>& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       DirectIoMode& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       PassthroughMode& out);
[[nodiscard]] absl::Status parse_value(const ConfigKey& key, const ConfigValue& value,
                                       LogLevel& out);

/// A number of bytes in the largest unit that says it exactly: "1536MiB".
[[nodiscard]] std::string exact_size(uint64_t bytes);

// Each prints a value as TOML.
[[nodiscard]] std::string print_value(bool value);
[[nodiscard]] std::string print_value(uint32_t value);
[[nodiscard]] std::string print_value(uint64_t value);
[[nodiscard]] std::string print_value(const SizeOrShare& value);
[[nodiscard]] std::string print_value(absl::Duration value);
[[nodiscard]] std::string print_value(const std::string& value);
/// Empty for an empty path, which means an absent key.
[[nodiscard]] std::string print_value(const std::filesystem::path& value);
[[nodiscard]] std::string print_value(const std::vector<std::string>& value);
[[nodiscard]] std::string print_value(const std::vector<base::ListenAddress>& value);
[[nodiscard]] std::string print_value(const std::optional<base::ListenAddress>& value);
[[nodiscard]] std::string print_value(DirectIoMode value);
[[nodiscard]] std::string print_value(PassthroughMode value);
[[nodiscard]] std::string print_value(LogLevel value);

}  // namespace blobcache::server
