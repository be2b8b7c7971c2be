#include "store/page/impl/object_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/status.h"
#include "store/page/impl/disk_tier.h"

namespace blobcache::page {

ObjectFile::~ObjectFile() { disk_.open_files().remove(this); }

absl::StatusOr<OpenFilesRef> ObjectFile::open() {
  used_.store(true, std::memory_order_relaxed);
  {
    absl::ReaderMutexLock lock(&mutex_);
    if (open_ != nullptr) return open_;
  }
  BLOBCACHE_ASSIGN_OR_RETURN(OpenFilesRef opened, open_now());
  {
    absl::MutexLock lock(&mutex_);
    if (open_ != nullptr) return open_;
    open_ = opened;
    if (stays_open_) return opened;
  }
  disk_.open_files().add(this);
  return opened;
}

absl::StatusOr<OpenFilesRef> ObjectFile::open_now() {
  const std::filesystem::path path = disk_.object_path(key_, incarnation_);
  auto files = std::make_shared<OpenFiles>();
  absl::StatusOr<base::UniqueFd> data = disk_.open_file(path, O_RDONLY);
  if (absl::IsNotFound(data.status())) return lost("is gone");
  if (!data.ok()) return data.status();
  struct stat info{};
  if (::fstat(data->get(), &info) != 0) return base::errno_error(errno, path.string());
  // A file that was cut still has its first pages; one that is larger than it can be is not the
  // object that the catalog speaks of.
  if (static_cast<uint64_t>(info.st_size) > size_bytes_) return lost("is larger than the object");
  files->data = *std::move(data);
  if (has_map_) {
    // A map that is missing shows as one that cannot be read, and is made again.
    absl::StatusOr<base::UniqueFd> map = disk_.open_file(path.string() + ".map", O_RDONLY);
    if (!map.ok() && !absl::IsNotFound(map.status())) return map.status();
    if (map.ok()) files->map = *std::move(map);
  }
  return OpenFilesRef(std::move(files));
}

absl::Status ObjectFile::lost(const char* how) {
  absl::MutexLock lock(&mutex_);
  // Once: its readers may ask again and again.
  if (!loss_logged_) {
    spdlog::error("the file of an object {}: {}", how,
                  disk_.object_path(key_, incarnation_).string());
  }
  loss_logged_ = true;
  return absl::DataLossError(fmt::format("object {}: its file {}", key_.hex(), how));
}

absl::Status ObjectFile::keep_open() {
  {
    absl::MutexLock lock(&mutex_);
    stays_open_ = true;
  }
  return open().status();
}

void ObjectFile::replace_map(const OpenFilesRef& open, base::UniqueFd map) {
  auto files = std::make_shared<OpenFiles>();
  files->data = base::UniqueFd(::fcntl(open->data.get(), F_DUPFD_CLOEXEC, 0));
  files->map = std::move(map);
  absl::MutexLock lock(&mutex_);
  // Without a descriptor to spare the next open() finds the new map by its name.
  open_ = files->data.valid() ? std::move(files) : nullptr;
}

bool ObjectFile::close() {
  absl::MutexLock lock(&mutex_);
  if (stays_open_) return false;
  open_ = nullptr;
  return true;
}

}  // namespace blobcache::page
