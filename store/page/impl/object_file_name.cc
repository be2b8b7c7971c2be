#include "store/page/impl/object_file_name.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <array>

#include "base/hex.h"

namespace blobcache::page {

std::string object_folder_name(unsigned index) { return fmt::format("{:02x}", index); }

std::string object_file_path(const ObjectKey& key, const Incarnation& incarnation) {
  const std::string hex = key.hex();
  return fmt::format("{}/{}.{}", hex.substr(0, 2), hex, incarnation.hex());
}

std::string cache_file_path(const ObjectKey& key) {
  const std::string hex = key.hex();
  return fmt::format("{}/{}", std::string_view(hex).substr(0, 2), hex);
}

std::optional<ObjectKey> parse_cache_file_name(std::string_view name) {
  ObjectKey key;
  if (name.size() != 64 || !base::from_hex(name, absl::MakeSpan(key.bytes))) return std::nullopt;
  return key;
}

ObjectPart cut_part_suffix(std::string_view& name) {
  if (name.ends_with(kMapSuffix)) {
    name.remove_suffix(kMapSuffix.size());
    return ObjectPart::kMap;
  }
  if (name.ends_with(kNamesSuffix)) {
    name.remove_suffix(kNamesSuffix.size());
    return ObjectPart::kNames;
  }
  return ObjectPart::kData;
}

std::optional<ObjectFileName> parse_object_file_name(std::string_view name) {
  ObjectFileName parsed;
  parsed.part = cut_part_suffix(name);
  if (name.size() != 64 + 1 + 32 || name[64] != '.') return std::nullopt;
  if (!base::from_hex(name.substr(0, 64), absl::MakeSpan(parsed.key.bytes)) ||
      !base::from_hex(name.substr(65), absl::MakeSpan(parsed.incarnation.bytes))) {
    return std::nullopt;
  }
  return parsed;
}

std::optional<std::string> read_description(int fd) {
  std::array<char, 8192> text{};
  const ssize_t size = ::fgetxattr(fd, kDescriptionAttribute, text.data(), text.size());
  if (size < 0) return std::nullopt;
  return std::string(text.data(), static_cast<size_t>(size));
}

}  // namespace blobcache::page
