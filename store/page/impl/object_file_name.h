#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "store/page/object_key.h"

namespace blobcache::page {

inline constexpr std::string_view kMapSuffix = ".map";
inline constexpr std::string_view kNamesSuffix = ".names";

/// Which of an object's files it is.
enum class ObjectPart : uint8_t { kData, kMap, kNames };

/// What the name of a file under objects/ says. Value type.
struct ObjectFileName {
  ObjectKey key;
  Incarnation incarnation;
  ObjectPart part = ObjectPart::kData;
};

/// The two hex digits that the 256 folders under objects/ are named by.
[[nodiscard]] std::string object_folder_name(unsigned index);

/// "<2 hex>/<64 hex>.<32 hex>": where an object's data is, from objects/ on.
[[nodiscard]] std::string object_file_path(const ObjectKey& key, const Incarnation& incarnation);

/// Reads "<64 hex>.<32 hex>" with or without ".map" or ".names"; nullopt for a name that is not
/// ours.
[[nodiscard]] std::optional<ObjectFileName> parse_object_file_name(std::string_view name);

/// "<2 hex>/<64 hex>": where a cached object's data is, from cache/ on.
[[nodiscard]] std::string cache_file_path(const ObjectKey& key);

/// Reads "<64 hex>"; nullopt for a name that is not ours.
[[nodiscard]] std::optional<ObjectKey> parse_cache_file_name(std::string_view name);

/// Where an object's file keeps its description.
inline constexpr const char* kDescriptionAttribute = "user.blobcache";

/// Cuts the suffix of a page map or names file off `name`, and says which it was.
[[nodiscard]] ObjectPart cut_part_suffix(std::string_view& name);

/// The description that is stored with an open file; nullopt when there is none, or one longer than
/// any of ours.
[[nodiscard]] std::optional<std::string> read_description(int fd);

}  // namespace blobcache::page
