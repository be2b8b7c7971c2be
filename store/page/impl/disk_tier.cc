#include "store/page/impl/disk_tier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kRingDepth = 256;

absl::Status make_directory(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return base::errno_error(errno, path.string());
}

absl::Status unlink_file(const fs::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return base::errno_error(errno, path.string());
}

/// Half of the process's descriptors, of which an object takes two: the rest is the doors'.
size_t open_objects_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return std::clamp<rlim_t>(limit.rlim_cur / 4, 8, 65536);
}

}  // namespace

absl::Status sync_directory(const fs::path& path, Counters& counters) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  counters.add(Counters::kSyncs);
  if (!fd.valid() || ::fsync(fd.get()) != 0) return base::errno_error(errno, path.string());
  return absl::OkStatus();
}

DiskTier::DiskTier(const PageStoreOptions& options, Counters& counters)
    : path_(options.path),
      counters_(counters),
      budget_(options.path, options.disk_bytes, options.disk_reserve_bytes),
      fault_(options.disk_fault),
      open_files_(open_objects_limit()) {}

absl::StatusOr<std::unique_ptr<DiskTier>> DiskTier::open(const PageStoreOptions& options,
                                                         Counters& counters) {
  std::unique_ptr<DiskTier> tier(new DiskTier(options, counters));  // NOLINT: private constructor
  BLOBCACHE_RETURN_IF_ERROR(tier->make_folders());
  BLOBCACHE_RETURN_IF_ERROR(tier->probe_direct_io(options.direct_io));
  tier->root_ = base::UniqueFd(::open(options.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!tier->root_.valid()) return base::errno_error(errno, options.path.string());
  BLOBCACHE_ASSIGN_OR_RETURN(tier->ring_, IoRing::create(kRingDepth, options.disk_fault));
  return tier;
}

absl::Status DiskTier::make_folders() {
  BLOBCACHE_RETURN_IF_ERROR(make_directory(path_ / "tmp"));
  const fs::path objects = path_ / "objects";
  if (!fs::exists(objects / object_folder_name(255))) {
    BLOBCACHE_RETURN_IF_ERROR(make_directory(objects));
    for (unsigned i = 0; i < 256; ++i) {
      BLOBCACHE_RETURN_IF_ERROR(make_directory(objects / object_folder_name(i)));
    }
    BLOBCACHE_RETURN_IF_ERROR(sync_directory(objects, counters_));
    BLOBCACHE_RETURN_IF_ERROR(sync_directory(path_, counters_));
  }
  std::error_code error;
  for (fs::directory_iterator at(path_ / "tmp", error), end; !error && at != end;
       at.increment(error)) {
    BLOBCACHE_RETURN_IF_ERROR(unlink_file(at->path()));
  }
  if (error) return base::errno_error(error.value(), (path_ / "tmp").string());
  return absl::OkStatus();
}

absl::Status DiskTier::probe_direct_io(DirectIo wanted) {
  if (wanted == DirectIo::kOff) return absl::OkStatus();
  const fs::path probe = path_ / "tmp" / "direct-io-probe";
  const base::UniqueFd fd(
      ::open(probe.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600));
  bool works = false;
  if (fd.valid()) {
    // Some file systems take the flag at open and refuse the first transfer.
    const AlignedMemory page = allocate_aligned(kPageSize);
    works = ::pread(fd.get(), page.get(), kPageSize, 0) == 0;
  } else if (errno != EINVAL && errno != EOPNOTSUPP) {
    return base::errno_error(errno, probe.string());
  }
  BLOBCACHE_RETURN_IF_ERROR(unlink_file(probe));
  if (!works && wanted == DirectIo::kOn) {
    return absl::FailedPreconditionError(fmt::format(
        "the file system of {} has no direct I/O, and direct_io is \"on\"", path_.string()));
  }
  direct_ = works;
  return absl::OkStatus();
}

fs::path DiskTier::object_path(const ObjectKey& key, const Incarnation& incarnation) const {
  return path_ / "objects" / object_file_path(key, incarnation);
}

fs::path DiskTier::temporary_path(const Incarnation& incarnation) const {
  return path_ / "tmp" / incarnation.hex();
}

absl::StatusOr<base::UniqueFd> DiskTier::open_file(const fs::path& path, int flags) const {
  const int direct = direct_ ? O_DIRECT : 0;
  while (true) {
    base::UniqueFd fd(::open(path.c_str(), flags | direct | O_CLOEXEC, 0600));
    if (fd.valid()) return fd;
    const int error = errno;
    const bool short_of_descriptors = error == EMFILE || error == ENFILE;
    if (!short_of_descriptors || !open_files_.close_some()) {
      return base::errno_error(error, path.string());
    }
  }
}

absl::Status DiskTier::publish(const ObjectKey& key, const Incarnation& incarnation, bool has_map) {
  const fs::path from = temporary_path(incarnation);
  const fs::path to = object_path(key, incarnation);
  if (has_map && ::rename((from.string() + std::string(kMapSuffix)).c_str(),
                          (to.string() + std::string(kMapSuffix)).c_str()) != 0) {
    return base::errno_error(errno, to.string());
  }
  if (::rename(from.c_str(), to.c_str()) != 0) return base::errno_error(errno, to.string());
  return absl::OkStatus();
}

void DiskTier::judge(int result) {
  // A file that ended early and a full disk are no fault of the disk.
  if (result >= 0) {
    health_.succeeded();
  } else if (result != -ENODATA && result != -ENOSPC && result != -EDQUOT && result != -EFBIG) {
    counters_.add(Counters::kDiskErrors);
    health_.failed(-result);
  }
}

absl::Status DiskTier::sync_fd(int fd) {
  counters_.add(Counters::kSyncs);
  int result = fault_ ? fault_({DiskStep::Kind::kSync, 0, 0}) : 0;
  if (result == 0 && ::fsync(fd) != 0) result = -errno;
  judge(result);
  if (result == 0) return absl::OkStatus();
  return base::errno_error(-result, "syncing an object");
}

absl::Status DiskTier::sync_object(const ObjectKey& key, const Incarnation& incarnation, int data,
                                   int map) {
  for (const int fd : {data, map}) {
    if (fd >= 0) BLOBCACHE_RETURN_IF_ERROR(sync_fd(fd));
  }
  return sync_directory(object_path(key, incarnation).parent_path(), counters_);
}

absl::Status DiskTier::sync_all() {
  counters_.add(Counters::kSyncs);
  int result = fault_ ? fault_({DiskStep::Kind::kSync, 0, 0}) : 0;
  if (result == 0 && ::syncfs(root_.get()) != 0) result = -errno;
  judge(result);
  if (result == 0) return absl::OkStatus();
  return base::errno_error(-result, "syncing the store");
}

absl::Status DiskTier::publish_map(const ObjectKey& key, const Incarnation& incarnation, int fd) {
  const std::string from = temporary_path(incarnation).string() + std::string(kMapSuffix);
  const fs::path to = object_path(key, incarnation).string() + std::string(kMapSuffix);
  counters_.add(Counters::kSyncs);
  if (::fsync(fd) != 0 || ::rename(from.c_str(), to.c_str()) != 0) {
    return base::errno_error(errno, to.string());
  }
  return sync_directory(to.parent_path(), counters_);
}

absl::Status DiskTier::unlink(const ObjectKey& key, const Incarnation& incarnation) const {
  const fs::path path = object_path(key, incarnation);
  const absl::Status data = unlink_file(path);
  const absl::Status map = unlink_file(path.string() + std::string(kMapSuffix));
  return data.ok() ? map : data;
}

void DiskTier::unlink_temporary(const Incarnation& incarnation) const {
  const fs::path path = temporary_path(incarnation);
  for (const absl::Status& status :
       {unlink_file(path), unlink_file(path.string() + std::string(kMapSuffix))}) {
    if (!status.ok()) spdlog::warn("cannot remove a temporary file: {}", base::message(status));
  }
}

absl::Status DiskTier::describe(const ObjectKey& key, const Incarnation& incarnation,
                                const std::string& description) const {
  const fs::path path = object_path(key, incarnation);
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return base::errno_error(errno, path.string());
  // To write what is there already would cost the journal.
  if (read_description(fd.get()) == description) return absl::OkStatus();
  return describe_file(fd.get(), description);
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

absl::StatusOr<uint64_t> DiskTier::remove_orphans(
    const std::function<bool(const ObjectKey&, const Incarnation&)>& known) {
  uint64_t removed = 0;
  for (unsigned i = 0; i < 256; ++i) {
    const fs::path folder = path_ / "objects" / object_folder_name(i);
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      const std::optional<ObjectFileName> file =
          parse_object_file_name(at->path().filename().string());
      // A name that is not ours is somebody's; leave it. A writer's object is asked for before the
      // catalog, because it moves from the one to the other.
      if (!file || is_being_written(file->incarnation)) continue;
      if (known(file->key, file->incarnation)) continue;
      BLOBCACHE_RETURN_IF_ERROR(unlink_file(at->path()));
      ++removed;
    }
    if (error) return base::errno_error(error.value(), folder.string());
  }
  return removed;
}

}  // namespace blobcache::page
