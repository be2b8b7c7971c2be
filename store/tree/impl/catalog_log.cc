#include "store/tree/impl/catalog_log.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace blobcache::tree {
namespace {

/// Where the header of a log has its salts.
constexpr off_t kSaltsOffset = 16;

/// The mark's content; within one sector, so that it is written whole or not at all.
struct MarkContent {
  std::array<char, 8> magic{'b', 'l', 'b', 'c', 'm', 'a', 'r', 'k'};
  LogPosition position;
};
static_assert(sizeof(MarkContent) == 20 && std::is_trivially_copyable_v<MarkContent>);

absl::Status sync_with_directory(int fd, const std::filesystem::path& file) {
  const base::UniqueFd directory(
      ::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid() && ::fsync(fd) == 0 && ::fsync(directory.get()) == 0) {
    return absl::OkStatus();
  }
  return base::errno_error(errno, file.string());
}

}  // namespace

absl::StatusOr<std::unique_ptr<CatalogLog>> CatalogLog::open(const std::filesystem::path& log,
                                                             const std::filesystem::path& mark) {
  base::UniqueFd log_fd(::open(log.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!log_fd.valid()) return base::errno_error(errno, log.string());
  base::UniqueFd mark_fd(::open(mark.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!mark_fd.valid()) {
    mark_fd =
        base::UniqueFd(::open(mark.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!mark_fd.valid()) return base::errno_error(errno, mark.string());
    BLOBCACHE_RETURN_IF_ERROR(sync_with_directory(mark_fd.get(), mark));
  }
  return std::unique_ptr<CatalogLog>(new CatalogLog(log, std::move(log_fd), std::move(mark_fd)));
}

std::optional<LogPosition> CatalogLog::read_mark(const std::filesystem::path& mark) {
  const base::UniqueFd fd(::open(mark.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return std::nullopt;
  MarkContent content;
  const std::array<char, 8> magic = content.magic;
  if (::pread(fd.get(), &content, sizeof(content), 0) != sizeof(content)) return LogPosition();
  return content.magic == magic ? content.position : LogPosition();
}

LogPosition CatalogLog::position(uint32_t frames) const {
  LogPosition position;
  const auto size = static_cast<ssize_t>(position.salts.size());
  // Without its salts a position is of no log.
  if (::pread(log_.get(), position.salts.data(), position.salts.size(), kSaltsOffset) == size) {
    position.frames = frames;
  }
  return position;
}

absl::Status CatalogLog::sync() {
  if (::fdatasync(log_.get()) == 0) return absl::OkStatus();
  return base::errno_error(errno, path_.string());
}

void CatalogLog::note_synced(const LogPosition& position) {
  MarkContent content;
  content.position = position;
  if (::pwrite(mark_.get(), &content, sizeof(content), 0) == sizeof(content)) return;
  spdlog::warn("the mark of the catalog's log cannot be written: {}",
               base::message(base::errno_error(errno, path_.string())));
}

}  // namespace blobcache::tree
