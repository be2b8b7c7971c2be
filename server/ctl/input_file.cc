#include "server/ctl/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "base/status.h"

namespace blobcache::ctl {

absl::StatusOr<InputFile> InputFile::open(const std::string& path) {
  base::UniqueFd owned;
  if (path != "-") {
    owned = base::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!owned.valid()) return base::errno_error(errno, "cannot open it");
  }
  const int fd = owned.valid() ? owned.get() : STDIN_FILENO;
  InputFile file(std::move(owned), fd);
  BLOBCACHE_RETURN_IF_ERROR(file.look());
  return file;
}

absl::Status InputFile::look() {
  struct stat info{};
  if (::fstat(fd_, &info) != 0) return base::errno_error(errno, "cannot look at it");
  if (S_ISDIR(info.st_mode)) {
    return base::error(absl::StatusCode::kInvalidArgument, "it is a directory, not a file");
  }
  if (S_ISREG(info.st_mode)) {
    // Standard input may stand in the middle of a file; what comes before is not ours to send.
    const off_t at = ::lseek(fd_, 0, SEEK_CUR);
    offset_ = std::max<off_t>(at, 0);
    stretch_end_ = offset_;
    regular_ = true;
    // Files of /proc say 0 and hold something: read() goes on until the end all the same.
    if (info.st_size > offset_) {
      size_bytes_ = static_cast<uint64_t>(info.st_size - offset_);
      data_bytes_ = std::min(*size_bytes_, static_cast<uint64_t>(info.st_blocks) * 512);
    }
    (void)::posix_fadvise(fd_, offset_, 0, POSIX_FADV_SEQUENTIAL);
  } else if (S_ISBLK(info.st_mode)) {
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (end > 0 && ::lseek(fd_, 0, SEEK_SET) == 0) size_bytes_ = static_cast<uint64_t>(end);
  }
  return absl::OkStatus();
}

absl::Status InputFile::find_stretch() {
  hole_ = false;
  stretch_end_ = std::numeric_limits<off_t>::max();
  const off_t data = ::lseek(fd_, offset_, SEEK_DATA);
  if (data > offset_) {
    hole_ = true;
    stretch_end_ = data;
  } else if (data == offset_) {
    const off_t hole = ::lseek(fd_, offset_, SEEK_HOLE);
    if (hole > offset_) stretch_end_ = hole;
  } else if (errno == ENXIO) {
    // No data up to the end: a last hole, or the end itself.
    struct stat info{};
    if (::fstat(fd_, &info) != 0) return base::errno_error(errno, "cannot look at it");
    if (info.st_size > offset_) {
      hole_ = true;
      stretch_end_ = info.st_size;
    }
  }
  // A file system that knows no holes answers with another error: all is data.
  return absl::OkStatus();
}

absl::StatusOr<size_t> InputFile::read(absl::Span<std::byte> buffer) {
  if (!regular_) return read_stream(buffer);
  if (offset_ >= stretch_end_) BLOBCACHE_RETURN_IF_ERROR(find_stretch());
  const auto wanted = static_cast<size_t>(
      std::min<uint64_t>(buffer.size(), static_cast<uint64_t>(stretch_end_ - offset_)));
  if (hole_) {
    std::memset(buffer.data(), 0, wanted);
    offset_ += static_cast<off_t>(wanted);
    return wanted;
  }
  ssize_t got = 0;
  do {
    got = ::pread(fd_, buffer.data(), wanted, offset_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return base::errno_error(errno, "cannot read it");
  offset_ += got;
  return static_cast<size_t>(got);
}

absl::StatusOr<size_t> InputFile::read_stream(absl::Span<std::byte> buffer) const {
  size_t filled = 0;
  // A pipe hands out little at a time; a full buffer makes fewer and larger messages.
  while (filled < buffer.size()) {
    const ssize_t got = ::read(fd_, buffer.data() + filled, buffer.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error(errno, "cannot read it");
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

}  // namespace blobcache::ctl
