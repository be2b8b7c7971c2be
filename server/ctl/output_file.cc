#include "server/ctl/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "base/status.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

/// Runs of zeros are looked for in blocks of this size at multiples of it: a file system's block.
constexpr size_t kBlock = 4096;
constexpr size_t kLongestName = 255;

absl::Status cannot(std::string_view what, const std::string& path) {
  const int error = errno;
  return base::errno_error(error, fmt::format("cannot {} {}", what, escape(path)));
}

std::string resolve_links(const std::string& path) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

std::string temporary_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  const size_t name_at = slash == std::string::npos ? 0 : slash + 1;
  std::random_device random;
  const std::string suffix = fmt::format(".{:08x}.part", random());
  const std::string name = path.substr(name_at, kLongestName - 1 - suffix.size());
  return fmt::format("{}.{}{}", path.substr(0, name_at), name, suffix);
}

bool all_zero(const std::byte* bytes, size_t count) {
  // A block is zero when its first byte is and each byte equals the one before.
  return count == 0 || (bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, count - 1) == 0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path) {
  if (path == "-") {
    return std::make_unique<OutputFile>(
        Target{base::UniqueFd(), STDOUT_FILENO, "", "standard output"});
  }
  struct stat info{};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) {
    return base::errno_error(EISDIR, fmt::format("cannot write {}", escape(path)));
  }
  if (exists && !S_ISREG(info.st_mode)) {
    base::UniqueFd owned(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (!owned.valid()) return cannot("open", path);
    const int fd = owned.get();
    return std::make_unique<OutputFile>(Target{std::move(owned), fd, "", path});
  }
  if (exists && ::access(path.c_str(), W_OK) != 0) return cannot("write", path);
  const std::string target = resolve_links(path);
  const std::string temporary = temporary_name(target);
  base::UniqueFd owned(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!owned.valid()) return cannot("create", path);
  const int fd = owned.get();
  auto file = std::make_unique<OutputFile>(Target{std::move(owned), fd, temporary, target});
  if (exists && ::fchmod(fd, info.st_mode & 07777U) != 0) return cannot("set the mode of", path);
  return file;
}

OutputFile::~OutputFile() {
  if (!committed_) discard();
}

absl::Status OutputFile::write(absl::Span<const std::byte> bytes) {
  if (target_.temporary.empty()) return write_stream(bytes);
  while (!bytes.empty()) {
    const size_t in_block = static_cast<size_t>(size_) % kBlock;
    // Blocks of zeros are left out, also where a write begins or ends within one: what is not
    // written reads as zeros. What lies between two of them is written in one go.
    size_t data = 0;
    size_t zeros = 0;
    for (size_t at = 0; at < bytes.size();) {
      const size_t block = std::min(kBlock - (at == 0 ? in_block : 0), bytes.size() - at);
      zeros = all_zero(bytes.data() + at, block) ? block : 0;
      if (zeros > 0) break;
      at += block;
      data = at;
    }
    BLOBCACHE_RETURN_IF_ERROR(write_at_end(bytes.first(data)));
    size_ += static_cast<off_t>(zeros);
    bytes.remove_prefix(data + zeros);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::write_at_end(absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(target_.fd, bytes.data(), bytes.size(), size_);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return cannot("write", target_.path);
    size_ += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::write_stream(absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(target_.fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      broken_pipe_ = errno == EPIPE;
      return cannot("write", target_.path);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::commit() {
  if (!target_.temporary.empty()) {
    if (::ftruncate(target_.fd, size_) != 0) return cannot("write", target_.path);
    // Some file systems tell only now that what was written did not fit.
    if (::close(target_.owned.release()) != 0) return cannot("write", target_.path);
    if (::rename(target_.temporary.c_str(), target_.path.c_str()) != 0)
      return cannot("rename to", target_.path);
  }
  committed_ = true;
  return absl::OkStatus();
}

void OutputFile::discard() const {
  if (!target_.temporary.empty()) (void)::unlink(target_.temporary.c_str());
}

}  // namespace blobcache::ctl
