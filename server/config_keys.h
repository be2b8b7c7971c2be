#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/config.h"

namespace blobcache::server {

struct ConfigValue;

/// When a changed key takes effect.
enum class Effect : uint8_t {
  kRestart,   ///< at the next start
  kReload,    ///< at SIGHUP
  kReserved,  ///< checked, and without effect in this version
};

/// One row of the table that validation, `config show`, the man page's test and reloading share:
/// what a key is called, how it is read, checked and printed. Value type; all views are of string
/// literals.
struct ConfigKey {
  std::string_view section;
  std::string_view name;
  std::string_view help;  ///< one sentence, without its full stop
  Effect effect = Effect::kRestart;
  bool is_list = false;         ///< takes a list of strings
  bool wants_absolute = false;  ///< a path must begin with a slash

  /// Numbers, sizes (bytes) and durations (milliseconds) must lie within.
  uint64_t min = 0;
  uint64_t max = ~uint64_t{0};

  /// Sets the key in `config`. INVALID_ARGUMENT with the reason, without the key's name; `config`
  /// is then as before.
  absl::Status (*parse)(const ConfigKey& key, const ConfigValue& value, Config& config) = nullptr;
  /// The key's value as TOML; empty for one that is absent.
  std::string (*print)(const Config& config) = nullptr;

  /// "section.name"
  [[nodiscard]] std::string full_name() const;
};

/// Every key, by section, in the order of the documentation; but for those of origins.
[[nodiscard]] absl::Span<const ConfigKey> config_keys();

/// The keys of one [[origin]]: they read into, and print, the last of Config::origins.
[[nodiscard]] absl::Span<const ConfigKey> origin_keys();

/// The row of "section.name", or nullptr.
[[nodiscard]] const ConfigKey* find_config_key(std::string_view section, std::string_view name);

/// The keys whose values differ.
[[nodiscard]] std::vector<const ConfigKey*> changed_keys(const Config& before, const Config& after);

/// The known word that is nearest to a misspelt one, or "" when none is near.
[[nodiscard]] std::string_view nearest_word(std::string_view word,
                                            absl::Span<const std::string_view> known);

}  // namespace blobcache::server
