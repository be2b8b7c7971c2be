#include "server/limits.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>

#include "base/status.h"

namespace blobcache::server {
namespace {

/// Version 1 says "unlimited" with the largest whole number of pages; no machine has as much.
constexpr uint64_t kUnlimited = uint64_t{1} << 62;

/// Takes the text up to `separator` (or all of it) off the front.
std::string_view take(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

std::optional<uint64_t> leading_number(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return number;
}

/// The content of a small file of /proc or /sys; nothing when it cannot be read.
std::optional<std::string> read_small(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

/// The least limit of a group and its ancestors. A group's path may name nothing here (a container
/// that sees only its own part of the hierarchy): its nearest ancestor that exists counts, at last
/// the mount itself.
uint64_t least_limit(const std::filesystem::path& mount, const std::string& group,
                     std::string_view file) {
  uint64_t least = kUnlimited;
  std::filesystem::path relative = std::filesystem::path(group).relative_path().lexically_normal();
  for (;;) {
    if (const auto text = read_small(mount / relative / file)) {
      least = std::min(least, parse_cgroup_limit(*text).value_or(kUnlimited));
    }
    if (relative.empty() || relative == ".") return least;
    relative = relative.parent_path();
  }
}

}  // namespace

std::optional<uint64_t> parse_meminfo(std::string_view text) {
  constexpr std::string_view kLabel = "MemTotal:";
  while (!text.empty()) {
    const std::string_view line = take(text, '\n');
    if (!line.starts_with(kLabel)) continue;
    const std::optional<uint64_t> kib = leading_number(line.substr(kLabel.size()));
    if (!kib.has_value() || *kib > kUnlimited / 1024) return std::nullopt;
    return *kib * 1024;
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_cgroup_limit(std::string_view text) {
  const std::optional<uint64_t> bytes = leading_number(take(text, '\n'));
  if (!bytes.has_value() || *bytes >= kUnlimited) return std::nullopt;
  return bytes;
}

CgroupPaths parse_cgroup_paths(std::string_view text) {
  CgroupPaths paths;
  while (!text.empty()) {
    // "hierarchy:controllers:path"; a path may contain colons itself.
    std::string_view line = take(text, '\n');
    const std::string_view hierarchy = take(line, ':');
    std::string_view controllers = take(line, ':');
    if (hierarchy == "0" && controllers.empty()) paths.unified = line;
    while (!controllers.empty()) {
      if (take(controllers, ',') == "memory") paths.memory_v1 = line;
    }
  }
  return paths;
}

absl::StatusOr<MemoryLimit> memory_limit(const std::filesystem::path& root) {
  const std::optional<uint64_t> machine =
      parse_meminfo(read_small(root / "proc/meminfo").value_or(""));
  if (!machine.has_value()) {
    return absl::UnavailableError("cannot learn this machine's memory from /proc/meminfo");
  }
  const CgroupPaths groups = parse_cgroup_paths(read_small(root / "proc/self/cgroup").value_or(""));
  const std::filesystem::path mount = root / "sys/fs/cgroup";
  uint64_t limit = *machine;
  if (!groups.unified.empty()) {
    limit = std::min(limit, least_limit(mount, groups.unified, "memory.max"));
    // Where both versions are in use, version 2 is mounted here; it has no memory controller then.
    limit = std::min(limit, least_limit(mount / "unified", groups.unified, "memory.max"));
  }
  if (!groups.memory_v1.empty()) {
    limit =
        std::min(limit, least_limit(mount / "memory", groups.memory_v1, "memory.limit_in_bytes"));
  }
  return MemoryLimit{limit, limit < *machine};
}

absl::StatusOr<uint64_t> file_system_size(const std::filesystem::path& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) return base::errno_error(errno, path.native());
  return uint64_t{info.f_blocks} * info.f_frsize;
}

absl::Status raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return base::errno_error(errno, "RLIMIT_NOFILE");
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return base::errno_error(errno, "RLIMIT_NOFILE");
  return absl::OkStatus();
}

}  // namespace blobcache::server
