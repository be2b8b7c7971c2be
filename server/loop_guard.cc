#include "server/loop_guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "base/unique_fd.h"

namespace blobcache::server {
namespace {

using Identity = std::pair<dev_t, ino_t>;

std::optional<Identity> identity_of(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return std::nullopt;
  return Identity{info.st_dev, info.st_ino};
}

base::UniqueFd open_place(int at, const char* path) {
  return base::UniqueFd(::openat(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/// Whether `directory` is the one that `wanted` tells, or lies in it.
bool lies_in(int directory, const Identity& wanted) {
  std::optional<Identity> here = identity_of(directory);
  base::UniqueFd place;
  // As deep as a path can be.
  constexpr int kDeepest = 4096;
  for (int depth = 0; here && depth < kDeepest; ++depth) {
    if (*here == wanted) return true;
    place = open_place(place.valid() ? place.get() : directory, "..");
    if (!place.valid()) return false;
    const std::optional<Identity> above = identity_of(place.get());
    if (above == here) return false;  // the root
    here = above;
  }
  return false;
}

bool is_beneath(const std::filesystem::path& path, const std::filesystem::path& directory) {
  return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
         directory.end();
}

}  // namespace

void LoopGuard::set_mounts(ListMounts list) {
  const absl::MutexLock lock(&mutex_);
  list_ = std::move(list);
}

absl::Status LoopGuard::check_path(const std::string& path) {
  const std::filesystem::path plain = std::filesystem::path(path).lexically_normal();
  const absl::MutexLock lock(&mutex_);
  if (!list_) return absl::OkStatus();
  for (const std::filesystem::path& mountpoint : list_().mountpoints) {
    if (!is_beneath(plain, mountpoint)) continue;
    return absl::FailedPreconditionError(
        fmt::format("{}: lies on a mount of this daemon, which would wait for itself", path));
  }
  return absl::OkStatus();
}

absl::Status LoopGuard::check_directory(int directory) {
  const std::optional<Identity> here = identity_of(directory);
  if (!here) return absl::OkStatus();  // whoever reads there is told why
  {
    const absl::MutexLock lock(&mutex_);
    const std::vector<dev_t> own = list_ ? list_().devices : std::vector<dev_t>();
    if (std::find(own.begin(), own.end(), here->first) != own.end()) {
      return absl::FailedPreconditionError(
          "the directory lies on a mount of this daemon, which would wait for itself");
    }
  }
  return check_store(directory);
}

absl::Status LoopGuard::check_store(int directory) const {
  const base::UniqueFd store = open_place(AT_FDCWD, store_.c_str());
  if (!store.valid()) return absl::OkStatus();
  const std::optional<Identity> ours = identity_of(store.get());
  const std::optional<Identity> here = identity_of(directory);
  if (!ours || !here) return absl::OkStatus();
  if (lies_in(directory, *ours)) {
    return absl::FailedPreconditionError(
        fmt::format("the directory is, or lies beneath, the store, {}", store_.native()));
  }
  if (lies_in(store.get(), *here)) {
    return absl::FailedPreconditionError(
        fmt::format("the directory contains the store, {}", store_.native()));
  }
  return absl::OkStatus();
}

}  // namespace blobcache::server
