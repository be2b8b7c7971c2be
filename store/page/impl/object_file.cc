#include "store/page/impl/object_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <utility>

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
  absl::StatusOr<OpenFilesRef> opened = open_now();
  {
    absl::MutexLock lock(&mutex_);
    // Another thread was faster; perhaps keep_open(), after which their names went before we came.
    if (open_ != nullptr) return open_;
    if (!opened.ok()) {
      note_loss(opened.status());
      return opened.status();
    }
    open_ = *opened;
    if (stays_open_) return opened;
  }
  disk_.open_files().add(this);
  return opened;
}

absl::StatusOr<OpenFilesRef> ObjectFile::open_now() {
  const std::filesystem::path path = this->path();
  const int access = in_cache_ ? O_RDWR : O_RDONLY;
  auto files = std::make_shared<OpenFiles>();
  absl::StatusOr<base::UniqueFd> data = disk_.open_file(path, access | O_NONBLOCK);
  if (absl::IsNotFound(data.status()) && !in_cache_) return lost("is gone");
  if (!data.ok()) return data.status();
  struct stat info{};
  if (::fstat(data->get(), &info) != 0) return base::errno_error(errno, path.string());
  if (!S_ISREG(info.st_mode)) return lost("is no regular file");
  // A file that was cut still has its first pages; one that is larger than it can be is not the
  // object that the catalog speaks of. A cached object's last page was written whole.
  if (static_cast<uint64_t>(info.st_size) > size_bytes_) {
    if (!in_cache_) return lost("is larger than the object");
    if (const int cut = disk_.calls().truncate(data->get(), size_bytes_); cut != 0) {
      return base::errno_error(-cut, path.string());
    }
  }
  files->data = *std::move(data);
  if (!in_cache_) files->written_ns = written_ns(info);
  if (has_map_) {
    // A map that is missing shows as one that cannot be read, and is made again.
    absl::StatusOr<base::UniqueFd> map = disk_.open_file(path.string() + ".map", access);
    if (!map.ok() && (in_cache_ || !absl::IsNotFound(map.status()))) return map.status();
    if (map.ok()) files->map = *std::move(map);
  }
  return OpenFilesRef(std::move(files));
}

std::filesystem::path ObjectFile::path() const {
  return in_cache_ ? disk_.cache_path(key_) : disk_.object_path(key_, incarnation_);
}

absl::Status ObjectFile::lost(const char* how) const {
  return absl::DataLossError(fmt::format("object {}: its file {}", key_.hex(), how));
}

void ObjectFile::note_loss(const absl::Status& status) {
  // Once: its readers may ask again and again.
  if (!absl::IsDataLoss(status) || std::exchange(loss_logged_, true)) return;
  spdlog::error("{}: {}", base::message(status), path().string());
}

absl::Status ObjectFile::keep_open() {
  {
    absl::MutexLock lock(&mutex_);
    stays_open_ = true;
  }
  return open().status();
}

base::UniqueFd ObjectFile::duplicate_data() {
  if (!keep_open().ok()) return {};
  const absl::StatusOr<OpenFilesRef> files = open();
  if (!files.ok()) return {};
  return base::UniqueFd(::fcntl((*files)->data.get(), F_DUPFD_CLOEXEC, 0));
}

base::UniqueFd ObjectFile::duplicate_map() {
  const absl::StatusOr<OpenFilesRef> files = open();
  if (!files.ok() || !(*files)->map.valid()) return {};
  return base::UniqueFd(::fcntl((*files)->map.get(), F_DUPFD_CLOEXEC, 0));
}

void ObjectFile::take(base::UniqueFd data, base::UniqueFd map) {
  auto files = std::make_shared<OpenFiles>();
  files->data = std::move(data);
  files->map = std::move(map);
  absl::MutexLock lock(&mutex_);
  stays_open_ = true;
  if (open_ == nullptr) open_ = std::move(files);
}

void ObjectFile::replace_map(const OpenFilesRef& open, base::UniqueFd map) {
  auto files = std::make_shared<OpenFiles>();
  files->data = base::UniqueFd(::fcntl(open->data.get(), F_DUPFD_CLOEXEC, 0));
  files->map = std::move(map);
  files->written_ns = open->written_ns;
  {
    absl::MutexLock lock(&mutex_);
    // Without a descriptor to spare the next open() finds the new map by its name, if it has one.
    if (!files->data.valid()) {
      if (!stays_open_) open_ = nullptr;
      return;
    }
    open_ = std::move(files);
    if (stays_open_) return;
  }
  disk_.open_files().add(this);
}

bool ObjectFile::close() {
  absl::MutexLock lock(&mutex_);
  if (stays_open_) return false;
  open_ = nullptr;
  return true;
}

}  // namespace blobcache::page
