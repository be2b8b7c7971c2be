#include "fusefs/impl/mountpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::fusefs {
namespace fs = std::filesystem;
namespace {

absl::Status refused(absl::StatusCode code, const fs::path& mountpoint, std::string_view why) {
  return base::error(code, fmt::format("mountpoint {}: {}", mountpoint.string(), why));
}

/// Undoes "\040" and the like, by which the kernel keeps blanks, tabs, newlines and backslashes out
/// of the way.
std::string unescape(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                      text[i + 3] - '0'));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

/// The path without symbolic links, and whether what is there is dead.
struct Located {
  fs::path path;
  bool dead = false;
};

absl::StatusOr<Located> locate(const fs::path& mountpoint) {
  fs::path path = mountpoint.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  std::error_code error;
  const fs::path canonical = fs::canonical(path, error);
  if (!error) return Located{canonical, is_dead_mount(canonical)};
  if (error.value() == ENOTCONN) {
    // Nothing can be asked of a dead mount, so the links before it are followed without it.
    const fs::path parent = fs::canonical(path.parent_path(), error);
    if (!error) return Located{parent / path.filename(), true};
  }
  std::error_code ignored;
  if (error.value() == ENOENT && fs::is_symlink(fs::symlink_status(path, ignored))) {
    return refused(absl::StatusCode::kNotFound, mountpoint,
                   "it is a symbolic link to what does not exist");
  }
  if (error.value() == ENOENT) {
    return refused(
        absl::StatusCode::kNotFound, mountpoint,
        fmt::format("it does not exist; make it with: mkdir -p {}", mountpoint.string()));
  }
  return base::errno_error(error.value(), fmt::format("mountpoint {}", mountpoint.string()));
}

absl::Status recover_dead(const fs::path& path) {
  std::optional<MountEntry> entry;
  BLOBCACHE_ASSIGN_OR_RETURN(entry, mounted_at(path));
  if (!entry.has_value() || entry->type != kMountType) {
    return refused(absl::StatusCode::kFailedPrecondition, path,
                   fmt::format("a dead mount is there ({}), and it is not ours; take it away with: "
                               "umount -l {}",
                               entry.has_value() ? entry->type : "of unknown type", path.string()));
  }
  BLOBCACHE_RETURN_IF_ERROR(
      base::annotate(detach_mount(path),
                     fmt::format("mountpoint {}: cannot take away a dead mount", path.string())));
  spdlog::warn("mountpoint {}: took away the mount that an earlier daemon left when it died",
               path.string());
  return absl::OkStatus();
}

absl::Status check_directory(const fs::path& path) {
  struct stat attributes = {};
  if (::stat(path.c_str(), &attributes) != 0) {
    return base::errno_error(errno, fmt::format("mountpoint {}", path.string()));
  }
  if (!S_ISDIR(attributes.st_mode)) {
    return refused(absl::StatusCode::kFailedPrecondition, path, "it is not a directory");
  }
  std::optional<MountEntry> entry;
  BLOBCACHE_ASSIGN_OR_RETURN(entry, mounted_at(path));
  if (entry.has_value()) {
    return refused(absl::StatusCode::kFailedPrecondition, path,
                   fmt::format("something is mounted there already ({} of type {})", entry->source,
                               entry->type));
  }
  // Where names of the tree would be hidden, and the mount around it could not be unmounted.
  BLOBCACHE_ASSIGN_OR_RETURN(entry, mount_around(path));
  if (entry.has_value() && entry->type == kMountType) {
    return refused(absl::StatusCode::kFailedPrecondition, path,
                   fmt::format("it lies on a mount of blobcache, {}", entry->mountpoint.string()));
  }
  std::error_code error;
  const bool empty = fs::is_empty(path, error);
  if (error) return base::errno_error(error.value(), fmt::format("mountpoint {}", path.string()));
  if (!empty) {
    return refused(absl::StatusCode::kFailedPrecondition, path,
                   "it is not empty, and a mount would hide what is in it");
  }
  return absl::OkStatus();
}

/// The number is the kernel's for ever (Documentation/admin-guide/devices.txt).
const dev_t kFuseDevice = makedev(10, 229);

std::string kind_of_file(const struct stat& info) {
  if (S_ISCHR(info.st_mode)) {
    return fmt::format("character device {}:{}", major(info.st_rdev), minor(info.st_rdev));
  }
  if (S_ISREG(info.st_mode)) return "a regular file";
  return S_ISDIR(info.st_mode) ? "a directory" : "a file of another kind";
}

/// Asks the set-user-id helper of libfuse, for a daemon that may not call umount2 itself. True when
/// it did it.
bool run_fusermount(const fs::path& mountpoint) {
  std::string path = mountpoint.string();
  std::array<std::string, 5> words = {"fusermount3", "-u", "-q", "-z", "--"};
  std::array<char*, 7> arguments = {words[0].data(), words[1].data(), words[2].data(),
                                    words[3].data(), words[4].data(), path.data(),
                                    nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, words[0].c_str(), nullptr, nullptr, arguments.data(), environ) != 0) {
    return false;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  // "36 35 98:0 /root /mountpoint options optional fields - type source options"; see proc(5).
  std::vector<MountEntry> out;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string skipped;
    std::string mountpoint;
    std::string source;
    MountEntry entry;
    words >> skipped >> skipped >> entry.device >> skipped >> mountpoint;
    while (words >> skipped && skipped != "-") {
    }
    if (!(words >> entry.type >> source)) continue;
    entry.mountpoint = unescape(mountpoint);
    entry.source = unescape(source);
    out.push_back(std::move(entry));
  }
  return out;
}

absl::StatusOr<std::optional<MountEntry>> mounted_at(const fs::path& mountpoint) {
  std::optional<MountEntry> found;
  BLOBCACHE_ASSIGN_OR_RETURN(found, mount_around(mountpoint));
  if (found.has_value() && found->mountpoint != mountpoint) found.reset();
  return found;
}

absl::StatusOr<std::optional<MountEntry>> mount_around(const fs::path& path) {
  std::ifstream file("/proc/self/mountinfo");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file && !file.eof()) {
    return base::error(absl::StatusCode::kUnavailable, "cannot read /proc/self/mountinfo");
  }
  std::optional<MountEntry> found;
  for (MountEntry& entry : parse_mountinfo(text)) {
    const auto [end, rest] =
        std::mismatch(entry.mountpoint.begin(), entry.mountpoint.end(), path.begin(), path.end());
    if (end != entry.mountpoint.end()) continue;
    // The innermost; of several at one place a later line lies on top.
    const bool is_inner =
        !found.has_value() || entry.mountpoint.native().size() >= found->mountpoint.native().size();
    if (is_inner) found = std::move(entry);
  }
  return found;
}

bool is_dead_mount(const fs::path& path) {
  struct stat attributes = {};
  if (::stat(path.c_str(), &attributes) != 0) return errno == ENOTCONN;
  // That may have come from what the kernel remembers. A mount of our kind is asked for what its
  // server alone knows; no other is, since it may hang.
  const auto entry = mounted_at(path);
  if (!entry.ok() || !entry->has_value() || (*entry)->type != kMountType) return false;
  struct statvfs system = {};
  return ::statvfs(path.c_str(), &system) != 0 && errno == ENOTCONN;
}

absl::StatusOr<fs::path> prepare_mountpoint(const fs::path& mountpoint) {
  if (!mountpoint.is_absolute()) {
    return refused(absl::StatusCode::kInvalidArgument, mountpoint,
                   "it must be an absolute path (begin with a slash)");
  }
  // Several daemons may have died here, one on top of the other.
  constexpr int kMostDead = 16;
  for (int dead = 0; dead < kMostDead; ++dead) {
    Located located;
    BLOBCACHE_ASSIGN_OR_RETURN(located, locate(mountpoint));
    if (!located.dead) {
      BLOBCACHE_RETURN_IF_ERROR(check_directory(located.path));
      return located.path;
    }
    BLOBCACHE_RETURN_IF_ERROR(recover_dead(located.path));
  }
  return refused(absl::StatusCode::kFailedPrecondition, mountpoint,
                 fmt::format("more than {} dead mounts are there", kMostDead));
}

absl::Status check_fuse_device(const fs::path& device) {
  const absl::Status missing = base::error(
      absl::StatusCode::kUnavailable,
      fmt::format("there is no {}: load the kernel's fuse module (modprobe fuse), or give the "
                  "container the device",
                  device.string()));
  struct stat info = {};
  if (::stat(device.c_str(), &info) != 0) {
    return errno == ENOENT ? missing : base::errno_error(errno, device.string());
  }
  if (!S_ISCHR(info.st_mode) || info.st_rdev != kFuseDevice) {
    return base::error(
        absl::StatusCode::kUnavailable,
        fmt::format("{} is not the FUSE device (character device {}:{}), but {}; "
                    "remove it and make the device: mknod {} c {} {}",
                    device.string(), major(kFuseDevice), minor(kFuseDevice), kind_of_file(info),
                    device.string(), major(kFuseDevice), minor(kFuseDevice)));
  }
  if (::geteuid() != 0) return absl::OkStatus();  // fusermount3 opens it
  const base::UniqueFd opened(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (opened.valid()) return absl::OkStatus();
  if (errno == ENODEV || errno == ENXIO || errno == ENOENT) return missing;
  return base::errno_error(errno, fmt::format("cannot open {}", device.string()));
}

absl::Status detach_mount(const fs::path& mountpoint) {
  if (::umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return absl::OkStatus();
  const int error = errno;
  if (error == EPERM && run_fusermount(mountpoint)) return absl::OkStatus();
  return base::errno_error(error, "umount");
}

}  // namespace blobcache::fusefs
