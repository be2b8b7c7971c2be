#include "store/page/impl/object_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>

#include "base/status.h"

namespace blobcache::page {

absl::Status ObjectFile::open() {
  if (opened_.load(std::memory_order_acquire)) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  if (opened_.load(std::memory_order_relaxed)) return absl::OkStatus();
  const std::filesystem::path path = disk_.object_path(key_, incarnation_);
  absl::StatusOr<base::UniqueFd> data = disk_.open_file(path, O_RDONLY);
  if (absl::IsNotFound(data.status())) {
    // Once: its readers may ask again and again.
    if (!loss_logged_) spdlog::error("the file of an object is gone: {}", path.string());
    loss_logged_ = true;
    return absl::DataLossError(fmt::format("object {}: its file is gone", key_.hex()));
  }
  if (!data.ok()) return data.status();
  if (has_map_) {
    // A map that is missing shows as one that cannot be read, and is made again.
    absl::StatusOr<base::UniqueFd> map = disk_.open_file(path.string() + ".map", O_RDONLY);
    if (map.ok()) {
      map_fd_.store(map->get(), std::memory_order_relaxed);
      maps_.push_back(*std::move(map));
    } else if (!absl::IsNotFound(map.status())) {
      return map.status();
    }
  }
  data_ = *std::move(data);
  opened_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

}  // namespace blobcache::page
