#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::fusefs {

/// One line of /proc/self/mountinfo. Value type.
struct MountEntry {
  std::string device;  ///< "MAJOR:MINOR", which names this mount's file system and no other
  std::filesystem::path mountpoint;
  std::string type;  ///< "ext4", "fuse.blobcache"
  std::string source;
};

/// How our mounts show in /proc/mounts.
inline constexpr std::string_view kMountType = "fuse.blobcache";

/// Reads the whole table; lines that it cannot read are left out. Pure.
[[nodiscard]] std::vector<MountEntry> parse_mountinfo(std::string_view text);

/// What is mounted at exactly this path, on top if there are several. Touches no file system but
/// /proc, so it cannot hang on a dead one.
[[nodiscard]] absl::StatusOr<std::optional<MountEntry>> mounted_at(
    const std::filesystem::path& mountpoint);

/// The mount that a path lies on, which may be mounted at the path itself. The same.
[[nodiscard]] absl::StatusOr<std::optional<MountEntry>> mount_around(
    const std::filesystem::path& path);

/// Whether a file system is mounted at this path that has lost its server ("Transport endpoint is
/// not connected").
[[nodiscard]] bool is_dead_mount(const std::filesystem::path& path);

/// Makes sure that a tree can be mounted at `mountpoint`, and returns it without symbolic links. A
/// mount of ours whose daemon died is taken away, with a line in the log; any other that is dead is
/// an error. INVALID_ARGUMENT for a relative path, NOT_FOUND when it is missing,
/// FAILED_PRECONDITION when it is not a directory, mounted already, on a mount of blobcache, dead
/// or not empty, else what the system says; each one sentence.
[[nodiscard]] absl::StatusOr<std::filesystem::path> prepare_mountpoint(
    const std::filesystem::path& mountpoint);

/// UNAVAILABLE when there is no FUSE device or another file is in its place, PERMISSION_DENIED when
/// this process may not use it. `device` is where it is, except in tests.
[[nodiscard]] absl::Status check_fuse_device(const std::filesystem::path& device = "/dev/fuse");

/// Takes a mount out of the tree of files, at once, whether or not it is in use.
[[nodiscard]] absl::Status detach_mount(const std::filesystem::path& mountpoint);

}  // namespace blobcache::fusefs
