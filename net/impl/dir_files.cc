#include "net/impl/dir_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "base/status.h"
#include "store/tree/digest.h"
#include "store/tree/path.h"

namespace blobcache::net {
namespace {

/// The origin as a whole cannot be had.
constexpr absl::StatusCode kAway = absl::StatusCode::kUnavailable;
constexpr int64_t kNanosecondsInSecond = 1'000'000'000;

int64_t nanoseconds(const statx_timestamp& time) {
  return time.tv_sec * kNanosecondsInSecond + time.tv_nsec;
}

DirStamp to_stamp(const struct statx& info) {
  DirStamp stamp;
  stamp.device = (uint64_t{info.stx_dev_major} << 32) | info.stx_dev_minor;
  stamp.inode = info.stx_ino;
  stamp.size_bytes = info.stx_size;
  stamp.modified_ns = nanoseconds(info.stx_mtime);
  stamp.changed_ns = nanoseconds(info.stx_ctime);
  return stamp;
}

/// The file system itself is what failed, whatever was asked of it.
bool is_away(int error) {
  switch (error) {
    case EIO:
    case ESTALE:
    case ETIMEDOUT:
    case ENOTCONN:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENODEV:
    case EREMOTEIO:
    case ESHUTDOWN:
      return true;
    default:
      return false;
  }
}

absl::Status away(int error, std::string_view what) {
  return base::error(kAway, base::message(base::errno_error(error, what)));
}

absl::Status error_at(int error, std::string_view path) {
  const std::string what = tree::printable(path);
  // A link on the way, or another mount, is the end of what the origin has.
  if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == EXDEV) {
    return absl::NotFoundError(fmt::format("{}: no such file", what));
  }
  if (error == ENAMETOOLONG) return base::posix_error(error, fmt::format("{}: too long", what));
  return is_away(error) ? away(error, what) : base::errno_error(error, what);
}

int open_beneath(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  // EAGAIN: something was renamed meanwhile, and the kernel could not tell where the path leads.
  constexpr int kTries = 16;
  for (int tries = 0;; ++tries) {
    const int64_t fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || errno != EAGAIN || tries == kTries) return static_cast<int>(fd);
  }
}

/// What a symbolic link says: `name` in `directory`, or `directory` itself where that is "".
std::optional<std::string> target_of(int directory, const char* name) {
  std::array<char, tree::kMaxTargetBytes + 1> text{};
  const ssize_t length = ::readlinkat(directory, name, text.data(), text.size());
  // One that is longer is cut, and then no link that can be shown.
  if (length < 0) return std::nullopt;
  return std::string(text.data(), static_cast<size_t>(length));
}

std::string last_part(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

absl::StatusOr<Directory> open_directory(int place, const std::string& path) {
  base::UniqueFd fd(::openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return error_at(errno, path);
  Directory directory(::fdopendir(fd.get()));
  if (directory == nullptr) return error_at(errno, path);
  (void)fd.release();
  return directory;
}

bool may_be_shown(const dirent& entry) {
  return entry.d_type == DT_REG || entry.d_type == DT_DIR || entry.d_type == DT_LNK ||
         entry.d_type == DT_UNKNOWN;
}

}  // namespace

/// Something beneath the root.
struct DirFiles::Found {
  base::UniqueFd fd;  ///< O_PATH; invalid of what a listing shows
  mode_t mode = 0;
  DirStamp stamp;
  bool lasting = false;
  std::string target;  ///< of a symbolic link
};

DirFiles::DirFiles(const DirOriginOptions& options, DirSystem system)
    : name_(options.name), root_(options.path), guard_(options.guard), system_(std::move(system)) {}

absl::StatusOr<base::UniqueFd> DirFiles::open_root() const {
  if (guard_ != nullptr) {
    const absl::Status refused = guard_->check_path(root_);
    if (!refused.ok()) return base::error(kAway, base::message(refused));
  }
  base::UniqueFd root(::open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return away(errno, tree::printable(root_));
  if (guard_ != nullptr) {
    const absl::Status refused = guard_->check_directory(root.get());
    if (!refused.ok()) return base::error(kAway, base::message(refused));
  }
  return root;
}

absl::StatusOr<DirStamp> DirFiles::stamp_of(int fd) {
  struct statx info{};
  // What a network file system remembers of the file may be a minute old.
  constexpr int kFlags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  if (::statx(fd, "", kFlags, STATX_BASIC_STATS, &info) != 0) {
    return away(errno, "the file's attributes");
  }
  return to_stamp(info);
}

bool DirFiles::is_lasting(const DirStamp& stamp) const {
  const absl::Time now = system_.now();
  const absl::Time modified = absl::FromUnixNanos(stamp.modified_ns);
  const absl::Time changed = absl::FromUnixNanos(stamp.changed_ns);
  // Anybody may set the one, even to what is yet to come; the other is always the clock's.
  const bool just_modified = modified > now - kYoung && modified < now + kYoung;
  return !just_modified && changed <= now - kYoung;
}

absl::StatusOr<DirFiles::Found> DirFiles::find(const std::string& path) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd root, open_root());
  Found found;
  found.fd = base::UniqueFd(open_beneath(root.get(), path.empty() ? "." : path));
  if (!found.fd.valid()) return error_at(errno, path);
  struct statx info{};
  constexpr int kFlags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  if (::statx(found.fd.get(), "", kFlags, STATX_BASIC_STATS, &info) != 0) {
    return error_at(errno, path);
  }
  found.mode = info.stx_mode;
  found.stamp = to_stamp(info);
  if (S_ISLNK(found.mode)) found.target = target_of(found.fd.get(), "").value_or("");
  if (!S_ISREG(found.mode) && !S_ISDIR(found.mode) && !S_ISLNK(found.mode)) {
    return error_at(ENOENT, path);  // a device, a pipe or a socket, which is none of a reader's
  }
  return found;
}

void DirFiles::describe(std::string_view path, const Found& found, tree::OriginEntry& entry) const {
  entry.name = last_part(path);
  entry.modified = absl::FromUnixNanos(found.stamp.modified_ns);
  if (S_ISDIR(found.mode)) {
    entry.kind = tree::OriginEntry::Kind::kDirectory;
  } else if (S_ISLNK(found.mode)) {
    entry.kind = tree::OriginEntry::Kind::kSymlink;
    entry.target = found.target;
  } else {
    entry.size_bytes = found.stamp.size_bytes;
    if (is_lasting(found.stamp)) entry.version = key(path, found.stamp);
  }
}

absl::StatusOr<tree::OriginEntry> DirFiles::look_up(const std::string& path) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const Found found, find(path));
  tree::OriginEntry entry;
  describe(path, found, entry);
  return entry;
}

absl::StatusOr<std::vector<tree::OriginEntry>> DirFiles::list(
    const std::string& path, const std::atomic<bool>& wanted) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const Found place, find(path));
  if (!S_ISDIR(place.mode)) {
    return absl::FailedPreconditionError(fmt::format("{}: not a directory", tree::printable(path)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const Directory directory, open_directory(place.fd.get(), path));
  std::vector<tree::OriginEntry> entries;
  size_t names = 0;
  for (;;) {
    if (!wanted) return absl::CancelledError("nobody waits for it");
    errno = 0;
    const dirent* const each = ::readdir(directory.get());
    if (each == nullptr && errno != 0) return error_at(errno, path);
    if (each == nullptr) return entries;
    // "." and "..", too.
    if (!tree::check_name(each->d_name).ok()) continue;
    if (++names > tree::kMaxOriginEntries) {
      return absl::ResourceExhaustedError(fmt::format(
          "{}: has more than {} names", tree::printable(path), tree::kMaxOriginEntries));
    }
    if (!may_be_shown(*each)) continue;
    struct statx info{};
    const int fd = ::dirfd(directory.get());
    constexpr int kFlags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    if (::statx(fd, each->d_name, kFlags, STATX_BASIC_STATS, &info) != 0) {
      if (is_away(errno)) return error_at(errno, path);
      continue;  // it has gone, or is nobody's to look at
    }
    if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) continue;
    Found found;
    found.mode = info.stx_mode;
    found.stamp = to_stamp(info);
    if (S_ISLNK(found.mode)) found.target = target_of(fd, each->d_name).value_or("");
    if (!S_ISREG(found.mode) && !S_ISDIR(found.mode) && !S_ISLNK(found.mode)) continue;
    const std::string whole =
        path.empty() ? each->d_name : fmt::format("{}/{}", path, each->d_name);
    describe(whole, found, entries.emplace_back());
  }
}

absl::StatusOr<DirOpened> DirFiles::open(const std::string& path) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const Found found, find(path));
  if (S_ISDIR(found.mode)) {
    return absl::FailedPreconditionError(fmt::format("{}: a directory", tree::printable(path)));
  }
  if (!S_ISREG(found.mode)) return error_at(ENOENT, path);
  DirOpened opened;
  // The very file that was found to be one: to open a device may do something.
  const std::string again = fmt::format("/proc/self/fd/{}", found.fd.get());
  opened.fd = base::UniqueFd(::open(again.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!opened.fd.valid()) return error_at(errno, path);
  BLOBCACHE_ASSIGN_OR_RETURN(opened.stamp, stamp_of(opened.fd.get()));
  opened.lasting = is_lasting(opened.stamp);
  return opened;
}

page::ObjectKey DirFiles::key(std::string_view path, const DirStamp& stamp) const {
  // NUL stands in none of them, so that no two read alike. The device is not among them: that of a
  // network file system is another one after each mount.
  const std::string text =
      fmt::format("blobcache dir origin{0}{1}{0}{2}{0}{3}{0}{4}{0}{5}{0}{6}{0}{7}", '\0', name_,
                  root_, path, stamp.inode, stamp.size_bytes, stamp.modified_ns, stamp.changed_ns);
  tree::Sha256 hash;
  hash.update(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
  return hash.finish();
}

}  // namespace blobcache::net
