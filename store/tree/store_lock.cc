#include "store/tree/store_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "base/status.h"

namespace blobcache::tree {
namespace {

absl::Status check_directory(const std::filesystem::path& directory) {
  struct stat info{};
  if (::stat(directory.c_str(), &info) != 0) {
    return base::errno_error(errno, fmt::format("the store {}", directory.string()));
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        fmt::format("the store {} is not a directory", directory.string()));
  }
  return absl::OkStatus();
}

/// Who holds the lock, for a message. The number is written after the lock is taken, so it may be
/// missing.
std::string holder(int fd) {
  std::array<char, 32> text{};
  const ssize_t length = ::pread(fd, text.data(), text.size(), 0);
  const std::string_view number(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const std::string_view digits = number.substr(0, number.find_first_not_of("0123456789"));
  return digits.empty() ? "another process" : fmt::format("process {}", digits);
}

/// Why the lock could not be made in a directory that is there.
absl::Status refuse_directory(int error, const std::filesystem::path& directory,
                              const std::filesystem::path& file) {
  const std::string store = fmt::format("{} cannot hold a store", directory.string());
  // In place of "no such file", which would be about the file that was to be made.
  if (error == ENOENT) {
    return absl::FailedPreconditionError(
        fmt::format("{}: its file system lets no files be made", store));
  }
  return base::errno_error(error, fmt::format("{}: cannot write {}", store, file.string()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<StoreLock>> StoreLock::acquire(
    const std::filesystem::path& directory) {
  BLOBCACHE_RETURN_IF_ERROR(check_directory(directory));
  const std::filesystem::path file = directory / "lock";
  base::UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd.valid()) return refuse_directory(errno, directory, file);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return base::errno_error(errno, fmt::format("cannot lock {}", file.string()));
    return absl::UnavailableError(
        fmt::format("the store {} is in use by {}", directory.string(), holder(fd.get())));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return base::errno_error(errno, fmt::format("cannot write {}", file.string()));
  }
  return std::make_shared<StoreLock>(std::move(fd));
}

}  // namespace blobcache::tree
