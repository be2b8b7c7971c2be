#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::server {

/// MemTotal of /proc/meminfo's text, in bytes.
[[nodiscard]] std::optional<uint64_t> parse_meminfo(std::string_view text);

/// A control group's memory limit file (memory.max of version 2, memory.limit_in_bytes of version
/// 1), in bytes. Nothing for "max", for version 1's way to say unlimited, and for what is no
/// number.
[[nodiscard]] std::optional<uint64_t> parse_cgroup_limit(std::string_view text);

/// Which control groups a process is in, by /proc/self/cgroup's text; "" for a hierarchy that it
/// does not name. Value type.
struct CgroupPaths {
  std::string unified;    ///< version 2
  std::string memory_v1;  ///< version 1's memory controller
};
[[nodiscard]] CgroupPaths parse_cgroup_paths(std::string_view text);

/// The memory that a process may use at most. Value type.
struct MemoryLimit {
  uint64_t bytes = 0;
  bool of_group = false;  ///< it is the control group's, which is less than the machine has
};

/// What this process may use: the machine's memory, or the least limit of its control group and
/// that group's ancestors. `root` is where /proc and /sys are found ("/", except in tests).
/// UNAVAILABLE when not even the machine's memory can be learned.
[[nodiscard]] absl::StatusOr<MemoryLimit> memory_limit(const std::filesystem::path& root = "/");

/// The size in bytes of the file system that holds `path`.
[[nodiscard]] absl::StatusOr<uint64_t> file_system_size(const std::filesystem::path& path);

/// Raises the limit of open files as far as it goes without privileges: each object in use holds
/// two.
[[nodiscard]] absl::Status raise_open_files_limit();

}  // namespace blobcache::server
