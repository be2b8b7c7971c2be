#include "store/page/impl/disk_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace blobcache::page {

using Kind = DiskStep::Kind;

template <typename Call>
int DiskCalls::take(const DiskStep& step, const Call& call) const {
  int result = std::min(ask(step), 0);
  while (result == 0) {
    result = call();
    if (result >= 0) break;
    result = errno == EINTR ? 0 : -errno;
  }
  health_.judge(step.kind, result);
  return result;
}

int DiskCalls::open(const std::filesystem::path& path, int flags) const {
  const Kind kind = (flags & O_CREAT) != 0 ? Kind::kCreate : Kind::kOpen;
  return take({kind, 0, 0}, [&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0600); });
}

int DiskCalls::make_folder(const std::filesystem::path& path) const {
  return take({Kind::kMakeFolder, 0, 0}, [&] { return ::mkdir(path.c_str(), 0700); });
}

int DiskCalls::rename(const std::filesystem::path& from, const std::filesystem::path& to) const {
  return take({Kind::kRename, 0, 0}, [&] { return ::rename(from.c_str(), to.c_str()); });
}

int DiskCalls::unlink(const std::filesystem::path& path) const {
  return take({Kind::kUnlink, 0, 0}, [&] { return ::unlink(path.c_str()); });
}

int DiskCalls::truncate(int fd, uint64_t bytes) const {
  return take({Kind::kTruncate, 0, bytes},
              [&] { return ::ftruncate(fd, static_cast<off_t>(bytes)); });
}

int DiskCalls::punch_hole(int fd, uint64_t offset, uint64_t bytes) const {
  return take({Kind::kPunchHole, offset, bytes}, [&] {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes));
  });
}

int DiskCalls::set_attribute(int fd, const char* name, const std::string& value) const {
  return take({Kind::kAttribute, 0, value.size()},
              [&] { return ::fsetxattr(fd, name, value.data(), value.size(), 0); });
}

int DiskCalls::remove_attribute(int fd, const char* name) const {
  return take({Kind::kAttribute, 0, 0}, [&] { return ::fremovexattr(fd, name); });
}

int DiskCalls::sync(int fd) const {
  return take({Kind::kSync, 0, 0}, [&] { return ::fsync(fd); });
}

int DiskCalls::sync_file_system(int fd) const {
  return take({Kind::kSync, 0, 0}, [&] { return ::syncfs(fd); });
}

int64_t DiskCalls::read(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed) const {
  const int64_t result = move_in(fd, into, offset, needed);
  health_.judge(Kind::kRead, static_cast<int>(std::min<int64_t>(result, 0)));
  return result;
}

int64_t DiskCalls::read_buffered(int fd, absl::Span<std::byte> into, uint64_t offset) const {
  const int64_t result = move_in(fd, into, offset, into.size());
  if (result < 0) health_.judge(Kind::kRead, static_cast<int>(result));
  return result;
}

int64_t DiskCalls::move_in(int fd, absl::Span<std::byte> into, uint64_t offset,
                           size_t needed) const {
  return read_fully(fd, into, offset, needed, ask({Kind::kRead, offset, into.size()}));
}

int64_t read_fully(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed, int fault) {
  int error = std::min(fault, 0);
  size_t moved = 0;
  while (error == 0 && moved < needed) {
    const size_t from = resume_at(moved);
    ssize_t got =
        ::pread(fd, into.data() + from, into.size() - from, static_cast<off_t>(offset + from));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      error = -errno;
      break;
    }
    if (fault > 0) got = std::min<ssize_t>(got, fault);
    fault = 0;
    if (from + static_cast<size_t>(got) <= moved) break;  // the file's end
    moved = from + static_cast<size_t>(got);
  }
  return error < 0 ? error : static_cast<int64_t>(moved);
}

int DiskCalls::write(int fd, absl::Span<const std::byte> from, uint64_t offset) const {
  const int result = move_out(fd, from, offset);
  health_.judge(Kind::kWrite, result);
  return result;
}

int DiskCalls::write_buffered(int fd, absl::Span<const std::byte> from, uint64_t offset) const {
  const int result = move_out(fd, from, offset);
  if (result < 0) health_.judge(Kind::kWrite, result);
  return result;
}

int DiskCalls::move_out(int fd, absl::Span<const std::byte> from, uint64_t offset) const {
  int fault = ask({Kind::kWrite, offset, from.size()});
  int error = std::min(fault, 0);
  size_t moved = 0;
  while (error == 0 && moved < from.size()) {
    const size_t at = resume_at(moved);
    ssize_t put = ::pwrite(fd, from.data() + at, from.size() - at, static_cast<off_t>(offset + at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      error = -errno;
      break;
    }
    if (fault > 0) put = std::min<ssize_t>(put, fault);
    fault = 0;
    // A write that gets no further, without a word why, never will.
    if (at + static_cast<size_t>(put) <= moved) error = -EIO;
    moved = at + static_cast<size_t>(put);
  }
  return error;
}

}  // namespace blobcache::page
