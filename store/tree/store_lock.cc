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

/// Who holds the lock, or held it and did not end as he should. The number is written after the
/// lock is taken, so it may be missing.
std::string holder_number(int fd) {
  std::array<char, 32> text{};
  const ssize_t length = ::pread(fd, text.data(), text.size(), 0);
  const std::string_view number(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  return std::string(number.substr(0, number.find_first_not_of("0123456789")));
}

std::string holder(int fd) {
  const std::string number = holder_number(fd);
  return number.empty() ? "another process" : fmt::format("process {}", number);
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

/// Says whose the lock is.
absl::Status write_holder(int fd, const std::filesystem::path& file) {
  const std::string pid = fmt::format("{}\n", ::getpid());
  // In this order, so that a file that has its room already needs none of a full disk.
  if (::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()) ||
      ::ftruncate(fd, static_cast<off_t>(pid.size())) != 0) {
    return base::errno_error(errno, fmt::format("cannot write {}", file.string()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<StoreLock>> StoreLock::acquire(
    const std::filesystem::path& directory) {
  BLOBCACHE_RETURN_IF_ERROR(check_directory(directory));
  const std::filesystem::path file = directory / "lock";
  base::UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd.valid()) return refuse_directory(errno, directory, file);
  base::UniqueFd folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return base::errno_error(errno, directory.string());
  for (const int locked : {fd.get(), folder.get()}) {
    if (::flock(locked, LOCK_EX | LOCK_NB) == 0) continue;
    if (errno != EWOULDBLOCK)
      return base::errno_error(errno, fmt::format("cannot lock {}", file.string()));
    return absl::UnavailableError(
        fmt::format("the store {} is in use by {}", directory.string(), holder(fd.get())));
  }
  const bool ended_cleanly = holder_number(fd.get()).empty();
  BLOBCACHE_RETURN_IF_ERROR(write_holder(fd.get(), file));
  return std::make_shared<StoreLock>(std::move(fd), std::move(folder), ended_cleanly);
}

absl::StatusOr<std::shared_ptr<StoreLock>> StoreLock::take_over(base::ParcelReader& parcel) {
  base::UniqueFd file = parcel.descriptor();
  base::UniqueFd folder = parcel.descriptor();
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(parcel.status(), "the store's lock"));
  if (!file.valid() || !folder.valid()) return absl::DataLossError("the store's lock is missing");
  const bool ended_cleanly = holder_number(file.get()).empty();
  BLOBCACHE_RETURN_IF_ERROR(write_holder(file.get(), "the store's lock"));
  return std::make_shared<StoreLock>(std::move(file), std::move(folder), ended_cleanly);
}

absl::Status StoreLock::hand_over(base::ParcelWriter& parcel) const {
  for (const base::UniqueFd* each : {&file_, &directory_}) {
    base::UniqueFd copy(::fcntl(each->get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return base::errno_error(errno, "the store's lock");
    parcel.add_descriptor(std::move(copy));
  }
  return absl::OkStatus();
}

StoreLock::~StoreLock() {
  // The file keeps its room. Without this the next start only takes more care.
  if (::pwrite(file_.get(), "\n", 1, 0) != 1) return;
}

}  // namespace blobcache::tree
