#include "store/volume/impl/file_calls.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "base/status.h"

namespace blobcache::volume {

using Kind = page::DiskStep::Kind;

template <typename Call>
int64_t FileCalls::take(const page::DiskStep& step, const Call& call) const {
  const int fault = fault_ ? std::min(fault_(step), 0) : 0;
  if (fault < 0) return fault;
  for (;;) {
    const int64_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

namespace {

absl::Status outcome(int64_t result, std::string_view what) {
  if (result >= 0) return absl::OkStatus();
  return base::errno_error(static_cast<int>(-result), what);
}

}  // namespace

std::filesystem::path parent_of(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return whole.has_filename() ? whole.parent_path() : whole.parent_path().parent_path();
}

absl::StatusOr<base::UniqueFd> FileCalls::open(const std::filesystem::path& path, int flags) const {
  const Kind kind = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? Kind::kCreate : Kind::kOpen;
  const int64_t fd =
      take({kind, 0, 0}, [&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0600); });
  if (fd < 0) return outcome(fd, path.string());
  return base::UniqueFd(static_cast<int>(fd));
}

absl::Status FileCalls::make_folder(const std::filesystem::path& path) const {
  return outcome(take({Kind::kMakeFolder, 0, 0}, [&] { return ::mkdir(path.c_str(), 0700); }),
                 path.string());
}

absl::Status FileCalls::rename(const std::filesystem::path& from,
                               const std::filesystem::path& to) const {
  return outcome(take({Kind::kRename, 0, 0}, [&] { return ::rename(from.c_str(), to.c_str()); }),
                 to.string());
}

absl::Status FileCalls::unlink(const std::filesystem::path& path) const {
  return outcome(take({Kind::kUnlink, 0, 0}, [&] { return ::unlink(path.c_str()); }),
                 path.string());
}

absl::Status FileCalls::remove_folder(const std::filesystem::path& path) const {
  return outcome(take({Kind::kUnlink, 0, 0}, [&] { return ::rmdir(path.c_str()); }), path.string());
}

absl::Status FileCalls::truncate(int fd, uint64_t bytes) const {
  return outcome(
      take({Kind::kTruncate, 0, bytes}, [&] { return ::ftruncate(fd, static_cast<off_t>(bytes)); }),
      "setting the size of a volume's file");
}

absl::Status FileCalls::read(int fd, absl::Span<std::byte> into, uint64_t offset) const {
  while (!into.empty()) {
    const int64_t got = take({Kind::kRead, offset, into.size()}, [&] {
      return ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    });
    if (got < 0) return outcome(got, "reading a volume's file");
    if (got == 0) return absl::DataLossError("a volume's file is too short");
    into.remove_prefix(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status FileCalls::read_or_zeros(int fd, absl::Span<std::byte> into, uint64_t offset) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, size_of(fd));
  const uint64_t there = std::min<uint64_t>(size > offset ? size - offset : 0, into.size());
  std::fill(into.begin() + static_cast<std::ptrdiff_t>(there), into.end(), std::byte{0});
  return read(fd, into.first(there), offset);
}

absl::StatusOr<uint64_t> FileCalls::size_of(int fd) const {
  struct stat info{};
  const int64_t result = take({Kind::kRead, 0, 0}, [&] { return ::fstat(fd, &info); });
  if (result < 0) return outcome(result, "looking at a volume's file");
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<std::optional<uint64_t>> FileCalls::next_data(int fd, uint64_t offset) const {
  const int64_t at = take({Kind::kRead, offset, 0}, [&] {
    return static_cast<int64_t>(::lseek(fd, static_cast<off_t>(offset), SEEK_DATA));
  });
  if (at == -ENXIO) return std::optional<uint64_t>();
  if (at < 0) return outcome(at, "looking for data in a volume's file");
  return std::optional<uint64_t>(static_cast<uint64_t>(at));
}

bool FileCalls::read_now(int fd, absl::Span<std::byte> into, uint64_t offset) const {
  const Nowait nowait = nowait_.load(std::memory_order_relaxed);
  if (fault_ || nowait == Nowait::kNone) return false;
  const iovec piece{into.data(), into.size()};
  const int flags = nowait == Nowait::kFlag ? RWF_NOWAIT : 0;
  const ssize_t got = ::preadv2(fd, &piece, 1, static_cast<off_t>(offset), flags);
  if (got < 0 && errno == EOPNOTSUPP && nowait == Nowait::kFlag) {
    struct statfs info{};
    const bool in_memory = ::fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
    nowait_.store(in_memory ? Nowait::kAlways : Nowait::kNone);
    return read_now(fd, into, offset);
  }
  return got == static_cast<ssize_t>(into.size());
}

absl::Status FileCalls::write(int fd, absl::Span<const std::byte> from, uint64_t offset) const {
  while (!from.empty()) {
    // A test may let the first bytes through, and fails what comes after them as another step.
    const int fault = fault_ ? fault_({Kind::kWrite, offset, from.size()}) : 0;
    if (fault < 0) return outcome(fault, "writing a volume's file");
    const size_t length =
        fault > 0 ? std::min(from.size(), static_cast<size_t>(fault)) : from.size();
    const ssize_t put = ::pwrite(fd, from.data(), length, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    // A write that gets no further, without a word why, never will.
    if (put <= 0) return outcome(put < 0 ? -errno : -EIO, "writing a volume's file");
    from.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

absl::Status FileCalls::punch_hole(int fd, uint64_t offset, uint64_t bytes) const {
  const int64_t result = take({Kind::kPunchHole, offset, bytes}, [&] {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes));
  });
  if (result == -EOPNOTSUPP) return absl::OkStatus();
  return outcome(result, "giving a volume's space back");
}

absl::Status FileCalls::allocate(int fd, uint64_t offset, uint64_t bytes) const {
  const int64_t result = take({Kind::kWrite, offset, bytes}, [&] {
    return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes));
  });
  if (result == -EOPNOTSUPP) return absl::OkStatus();
  return outcome(result, "taking space for a volume's map");
}

absl::Status FileCalls::sync(int fd) const {
  return outcome(take({Kind::kSync, 0, 0}, [&] { return ::fdatasync(fd); }),
                 "syncing a volume's file");
}

absl::Status FileCalls::sync_all(int fd) const {
  return outcome(take({Kind::kSync, 0, 0}, [&] { return ::fsync(fd); }), "syncing a volume's file");
}

absl::Status FileCalls::sync_folder(const std::filesystem::path& path) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd folder, open(path, O_RDONLY | O_DIRECTORY));
  return sync_all(folder.get());
}

}  // namespace blobcache::volume
