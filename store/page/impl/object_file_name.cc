#include "store/page/impl/object_file_name.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>

#include "base/hex.h"
#include "base/status.h"

namespace blobcache::page {

std::string object_folder_name(unsigned index) { return fmt::format("{:02x}", index); }

std::string object_file_path(const ObjectKey& key, const Incarnation& incarnation) {
  const std::string hex = key.hex();
  return fmt::format("{}/{}.{}", hex.substr(0, 2), hex, incarnation.hex());
}

std::optional<ObjectFileName> parse_object_file_name(std::string_view name) {
  ObjectFileName parsed;
  parsed.is_map = name.ends_with(kMapSuffix);
  if (parsed.is_map) name.remove_suffix(kMapSuffix.size());
  if (name.size() != 64 + 1 + 32 || name[64] != '.') return std::nullopt;
  if (!base::from_hex(name.substr(0, 64), absl::MakeSpan(parsed.key.bytes)) ||
      !base::from_hex(name.substr(65), absl::MakeSpan(parsed.incarnation.bytes))) {
    return std::nullopt;
  }
  return parsed;
}

absl::Status describe_file(int fd, const std::string& description) {
  if (::fsetxattr(fd, kDescriptionAttribute, description.data(), description.size(), 0) == 0 ||
      errno == ENOTSUP) {
    return absl::OkStatus();
  }
  return base::errno_error(errno, "describing an object");
}

std::optional<std::string> read_description(int fd) {
  std::array<char, 8192> text{};
  const ssize_t size = ::fgetxattr(fd, kDescriptionAttribute, text.data(), text.size());
  if (size < 0) return std::nullopt;
  return std::string(text.data(), static_cast<size_t>(size));
}

}  // namespace blobcache::page
