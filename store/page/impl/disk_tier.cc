#include "store/page/impl/disk_tier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kRingDepth = 256;

/// The outcome of one of DiskCalls, as a status.
absl::Status status_of(int result, std::string_view what) {
  return result >= 0 ? absl::OkStatus() : base::errno_error(-result, what);
}

/// Half of the process's descriptors, of which an object takes two: the rest is the doors'.
size_t open_objects_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return std::clamp<rlim_t>(limit.rlim_cur / 4, 8, 65536);
}

}  // namespace

DiskTier::DiskTier(const PageStoreOptions& options, Counters& counters)
    : path_(options.path),
      counters_(counters),
      budget_(options.path, options.disk_bytes, options.disk_reserve_bytes),
      health_(counters, options.disk_clock),
      calls_(options.disk_fault, health_),
      open_files_(open_objects_limit()) {}

absl::StatusOr<std::unique_ptr<DiskTier>> DiskTier::open(const PageStoreOptions& options,
                                                         Counters& counters) {
  std::unique_ptr<DiskTier> tier(new DiskTier(options, counters));  // NOLINT: private constructor
  BLOBCACHE_RETURN_IF_ERROR(tier->make_folders());
  BLOBCACHE_RETURN_IF_ERROR(tier->probe_direct_io(options.direct_io));
  BLOBCACHE_RETURN_IF_ERROR(tier->probe_holes());
  BLOBCACHE_RETURN_IF_ERROR(tier->probe_attributes());
  const int root = tier->calls_.open(options.path, O_RDONLY | O_DIRECTORY);
  if (root < 0) return base::errno_error(-root, options.path.string());
  tier->root_ = base::UniqueFd(root);
  BLOBCACHE_ASSIGN_OR_RETURN(tier->ring_, IoRing::create(kRingDepth, options.disk_fault));
  return tier;
}

absl::Status DiskTier::make_folders() {
  const fs::path objects = path_ / "objects";
  std::vector<fs::path> folders = {path_ / "tmp", cache_root(), objects};
  for (unsigned i = 0; i < 256; ++i) folders.push_back(objects / object_folder_name(i));
  bool made = false;
  for (const fs::path& folder : folders) {
    const int result = calls_.make_folder(folder);
    if (result < 0 && result != -EEXIST) return base::errno_error(-result, folder.string());
    made |= result == 0;
  }
  if (made) {
    BLOBCACHE_RETURN_IF_ERROR(sync_directory(objects));
    BLOBCACHE_RETURN_IF_ERROR(sync_directory(path_));
  }
  std::error_code error;
  std::error_code ignored;
  for (fs::directory_iterator at(path_ / "tmp", error), end; !error && at != end;
       at.increment(error)) {
    // Folders are not ours, and no reason not to start.
    if (at->is_directory(ignored)) continue;
    BLOBCACHE_RETURN_IF_ERROR(unlink_file(at->path()));
  }
  if (error) return base::errno_error(error.value(), (path_ / "tmp").string());
  return absl::OkStatus();
}

absl::Status DiskTier::probe_direct_io(DirectIo wanted) {
  if (wanted == DirectIo::kOff) return absl::OkStatus();
  const fs::path probe = path_ / "tmp" / "direct-io-probe";
  const int opened = calls_.open(probe, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT);
  const base::UniqueFd fd(opened);
  bool works = false;
  if (fd.valid()) {
    // Some file systems take the flag at open and refuse the first transfer.
    const AlignedMemory page = allocate_aligned(kPageSize);
    const int64_t got = calls_.read(fd.get(), {page.get(), kPageSize}, 0, kPageSize);
    works = got == 0;
    if (got < 0 && is_disk_failure(static_cast<int>(got))) {
      return base::errno_error(static_cast<int>(-got), probe.string());
    }
  } else if (opened != -EINVAL && opened != -EOPNOTSUPP) {
    return base::errno_error(-opened, probe.string());
  }
  BLOBCACHE_RETURN_IF_ERROR(unlink_file(probe));
  if (!works && wanted == DirectIo::kOn) {
    return absl::FailedPreconditionError(fmt::format(
        "the file system of {} has no direct I/O, and direct_io is \"on\"", path_.string()));
  }
  direct_ = works;
  return absl::OkStatus();
}

void DiskTier::try_again() {
  if (!health_.is_out() || !health_.may_write()) return;
  const fs::path probe = path_ / "tmp" / "write-probe";
  const absl::StatusOr<base::UniqueFd> file = open_file(probe, O_RDWR | O_CREAT | O_TRUNC);
  if (!file.ok()) return;
  const AlignedMemory page = allocate_aligned(kPageSize);
  std::memset(page.get(), 0, kPageSize);
  // Each step tells the health of it.
  if (calls_.write(file->get(), {page.get(), kPageSize}, 0) == 0) (void)calls_.sync(file->get());
  (void)calls_.unlink(probe);
}

absl::Status DiskTier::probe_holes() {
  const fs::path probe = path_ / "tmp" / "hole-probe";
  const int opened = calls_.open(probe, O_RDWR | O_CREAT | O_TRUNC);
  if (opened < 0) return base::errno_error(-opened, probe.string());
  const base::UniqueFd fd(opened);
  const int punched = calls_.punch_hole(fd.get(), 0, kPageSize);
  // A disk that fails now says nothing of what its file system can do.
  if (is_disk_failure(punched)) return base::errno_error(-punched, probe.string());
  punches_holes_ = punched == 0;
  if (!punches_holes_) {
    spdlog::warn("the disk keeps what is put, and nothing of what sources bring: {}: {}",
                 path_.string(), std::generic_category().message(-punched));
  }
  return unlink_file(probe);
}

absl::Status DiskTier::probe_attributes() {
  const fs::path probe = path_ / "tmp" / "attribute-probe";
  const int opened = calls_.open(probe, O_RDWR | O_CREAT | O_TRUNC);
  if (opened < 0) return base::errno_error(-opened, probe.string());
  const base::UniqueFd fd(opened);
  const int set = calls_.set_attribute(fd.get(), kDescriptionAttribute, "probe");
  if (is_disk_failure(set)) return base::errno_error(-set, probe.string());
  // A disk that is full has them.
  has_attributes_ = set != -EOPNOTSUPP;
  if (!has_attributes_) {
    spdlog::warn(
        "{}: the file system has no user extended attributes; what blobs are called is kept in "
        "files beside them instead, one more file for each",
        path_.string());
  }
  return unlink_file(probe);
}

absl::StatusOr<bool> DiskTier::set_attribute(int fd, const std::string& text) const {
  if (!has_attributes_) return false;
  const int result = calls_.set_attribute(fd, kDescriptionAttribute, text);
  switch (-result) {
    case EOPNOTSUPP:
    case ENOSPC:
    case EDQUOT:
    case E2BIG:
    case ERANGE:
      return false;
    default:
      BLOBCACHE_RETURN_IF_ERROR(status_of(result, "describing an object"));
      return true;
  }
}

absl::Status DiskTier::punch_hole(int fd, uint64_t offset, uint64_t bytes) const {
  return status_of(calls_.punch_hole(fd, offset, bytes), "giving back blocks of a file");
}

fs::path DiskTier::object_path(const ObjectKey& key, const Incarnation& incarnation) const {
  return path_ / "objects" / object_file_path(key, incarnation);
}

fs::path DiskTier::cache_path(const ObjectKey& key) const {
  return cache_root() / cache_file_path(key);
}

fs::path DiskTier::temporary_path(const Incarnation& incarnation) const {
  return path_ / "tmp" / incarnation.hex();
}

absl::StatusOr<base::UniqueFd> DiskTier::open_file(const fs::path& path, int flags) const {
  const int direct = direct_ ? O_DIRECT : 0;
  while (true) {
    const int fd = calls_.open(path, flags | direct);
    if (fd >= 0) return base::UniqueFd(fd);
    const bool short_of_descriptors = fd == -EMFILE || fd == -ENFILE;
    if (!short_of_descriptors || !open_files_.close_some()) {
      return base::errno_error(-fd, path.string());
    }
  }
}

absl::Status DiskTier::publish(const ObjectKey& key, const Incarnation& incarnation, bool has_map,
                               bool has_names) {
  const fs::path from = temporary_path(incarnation);
  const fs::path to = object_path(key, incarnation);
  const auto move_part = [&](std::string_view suffix) {
    const std::string part(suffix);
    return status_of(calls_.rename(from.string() + part, to.string() + part), to.string());
  };
  // The data comes last: a kill before leaves what belongs to no object.
  if (has_map) BLOBCACHE_RETURN_IF_ERROR(move_part(kMapSuffix));
  if (has_names) BLOBCACHE_RETURN_IF_ERROR(move_part(kNamesSuffix));
  return move_part("");
}

absl::Status DiskTier::sync_fd(int fd) {
  counters_.add(Counters::kSyncs);
  return status_of(calls_.sync(fd), "syncing an object");
}

absl::Status DiskTier::sync_directory(const fs::path& path) {
  const int opened = calls_.open(path, O_RDONLY | O_DIRECTORY);
  if (opened < 0) return base::errno_error(-opened, path.string());
  const base::UniqueFd fd(opened);
  counters_.add(Counters::kSyncs);
  return status_of(calls_.sync(fd.get()), path.string());
}

absl::Status DiskTier::sync_object(const ObjectKey& key, const Incarnation& incarnation,
                                   std::initializer_list<int> fds) {
  for (const int fd : fds) {
    if (fd >= 0) BLOBCACHE_RETURN_IF_ERROR(sync_fd(fd));
  }
  return sync_directory(object_path(key, incarnation).parent_path());
}

absl::Status DiskTier::sync_all() {
  counters_.add(Counters::kSyncs);
  return status_of(calls_.sync_file_system(root_.get()), "syncing the store");
}

absl::Status DiskTier::publish_map(const ObjectKey& key, const Incarnation& incarnation, int fd) {
  const std::string from = temporary_path(incarnation).string() + std::string(kMapSuffix);
  const fs::path to = object_path(key, incarnation).string() + std::string(kMapSuffix);
  BLOBCACHE_RETURN_IF_ERROR(sync_fd(fd));
  BLOBCACHE_RETURN_IF_ERROR(status_of(calls_.rename(from, to), to.string()));
  return sync_directory(to.parent_path());
}

absl::Status DiskTier::unlink_file(const fs::path& path) const {
  const int result = calls_.unlink(path);
  return status_of(result == -ENOENT ? 0 : result, path.string());
}

absl::Status DiskTier::unlink(const ObjectKey& key, const Incarnation& incarnation) const {
  const fs::path path = object_path(key, incarnation);
  absl::Status status = unlink_file(path);
  for (const std::string_view suffix : {kMapSuffix, kNamesSuffix}) {
    status.Update(unlink_file(path.string() + std::string(suffix)));
  }
  return status;
}

void DiskTier::unlink_temporary(const Incarnation& incarnation) const {
  const fs::path path = temporary_path(incarnation);
  for (const std::string_view suffix : {std::string_view(), kMapSuffix, kNamesSuffix}) {
    const absl::Status status = unlink_file(path.string() + std::string(suffix));
    if (!status.ok()) spdlog::warn("cannot remove a temporary file: {}", base::message(status));
  }
}

void DiskTier::log_failure(std::string_view line) {
  const std::optional<uint64_t> left_out = failures_logged_.admit(absl::Now());
  if (!left_out) return;
  spdlog::error("{}{}", line, *left_out == 0 ? "" : fmt::format(" (and {} more)", *left_out));
}

void DiskTier::begin_writing(const Incarnation& incarnation) {
  absl::MutexLock lock(&mutex_);
  writing_.insert(incarnation.hex());
}

void DiskTier::end_writing(const Incarnation& incarnation) {
  absl::MutexLock lock(&mutex_);
  writing_.erase(incarnation.hex());
}

bool DiskTier::is_being_written(const Incarnation& incarnation) {
  absl::MutexLock lock(&mutex_);
  return writing_.contains(incarnation.hex());
}

}  // namespace blobcache::page
