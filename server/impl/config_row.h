#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "server/config.h"
#include "server/config_keys.h"
#include "server/impl/config_value.h"

namespace blobcache::server {

// How the tables of keys are written.

template <typename Value>
constexpr bool kIsList = false;
template <typename Element>
constexpr bool kIsList<std::vector<Element>> = true;

template <typename Section, typename Value>
Value value_type(Value Section::*);  // for decltype alone

/// Binds a row's functions to one member of one section.
template <auto Section, auto Member>
constexpr ConfigKey row(std::string_view section, std::string_view name, std::string_view help,
                        Effect effect = Effect::kRestart) {
  ConfigKey key;
  key.section = section;
  key.name = name;
  key.help = help;
  key.effect = effect;
  key.is_list = kIsList<decltype(value_type(Member))>;
  key.parse = [](const ConfigKey& self, const ConfigValue& value, Config& config) {
    return parse_value(self, value, (config.*Section).*Member);
  };
  key.print = [](const Config& config) { return print_value((config.*Section).*Member); };
  return key;
}

/// The same for a member of the last origin.
template <auto Member>
constexpr ConfigKey origin_row(std::string_view name, std::string_view help) {
  ConfigKey key;
  key.section = "origin";
  key.name = name;
  key.help = help;
  key.parse = [](const ConfigKey& self, const ConfigValue& value, Config& config) {
    return parse_value(self, value, config.origins.back().*Member);
  };
  key.print = [](const Config& config) { return print_value(config.origins.back().*Member); };
  return key;
}

/// Durations have limits in milliseconds.
inline constexpr uint64_t kSecond = 1000;

constexpr ConfigKey between(uint64_t min, uint64_t max, ConfigKey key) {
  key.min = min;
  key.max = max;
  return key;
}

/// A path that must be the same from every working directory.
constexpr ConfigKey absolute(ConfigKey key) {
  key.wants_absolute = true;
  return key;
}

constexpr ConfigKey at_least(uint64_t min, ConfigKey key) {
  return between(min, std::numeric_limits<uint64_t>::max(), key);
}

}  // namespace blobcache::server
