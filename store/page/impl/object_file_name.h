#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "store/page/object_key.h"

namespace blobcache::page {

inline constexpr std::string_view kMapSuffix = ".map";

/// What the name of a file under objects/ says. Value type.
struct ObjectFileName {
  ObjectKey key;
  Incarnation incarnation;
  bool is_map = false;
};

/// The two hex digits that the 256 folders under objects/ are named by.
[[nodiscard]] std::string object_folder_name(unsigned index);

/// "<2 hex>/<64 hex>.<32 hex>": where an object's data is, from objects/ on.
[[nodiscard]] std::string object_file_path(const ObjectKey& key, const Incarnation& incarnation);

/// Reads "<64 hex>.<32 hex>" with or without ".map"; nullopt for a name that is not ours.
[[nodiscard]] std::optional<ObjectFileName> parse_object_file_name(std::string_view name);

/// Where an object's file keeps its description.
inline constexpr const char* kDescriptionAttribute = "user.blobcache";

/// Stores the description with an open file. A file system without extended attributes is no error:
/// only a rebuild needs them, and it finds the bytes without.
[[nodiscard]] absl::Status describe_file(int fd, const std::string& description);

/// What describe_file() stored; nullopt when there is none, or one longer than any of ours.
[[nodiscard]] std::optional<std::string> read_description(int fd);

}  // namespace blobcache::page
