#include "store/tree/impl/volume_table.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "base/status.h"

namespace blobcache::tree {

absl::StatusOr<VolumeRef> VolumeTable::get(int64_t volume, Open open, Closed closed) {
  {
    const absl::MutexLock lock(&mutex_);
    for (;;) {
      await_settled(volume);
      const auto [at, absent] = volumes_.try_emplace(volume);
      if (absent) break;
      if (VolumeRef in_use = at->second.lock()) return in_use;
    }
  }
  absl::StatusOr<std::shared_ptr<volume::Volume>> opened = open();
  if (!opened.ok()) {
    leave(volume);
    return opened.status();
  }
  volume::Volume* const it = opened->get();
  VolumeRef made(it, [this, volume, held = *std::move(opened),
                      closed = std::move(closed)](volume::Volume* /*unused*/) mutable {
    // What a client flushed is safe whatever comes of this; the next open finds out about the rest.
    if (const absl::Status status = held->close(); !status.ok()) {
      spdlog::error("closing a volume: {}", base::message(status));
    }
    held = nullptr;
    closed();
    leave(volume);
  });
  const absl::MutexLock lock(&mutex_);
  volumes_[volume] = made;
  return made;
}

void VolumeTable::await_settled(int64_t volume) {
  const auto settled = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto at = volumes_.find(volume);
    return at == volumes_.end() || !at->second.expired();
  };
  mutex_.Await(absl::Condition(&settled));
}

VolumeRef VolumeTable::find(int64_t volume) {
  const absl::MutexLock lock(&mutex_);
  const auto at = volumes_.find(volume);
  return at == volumes_.end() ? nullptr : at->second.lock();
}

std::unique_ptr<VolumeTable::Barrier> VolumeTable::bar(int64_t volume) {
  const absl::MutexLock lock(&mutex_);
  await_settled(volume);
  if (!volumes_.try_emplace(volume).second) return nullptr;
  return std::make_unique<Barrier>(*this, volume);
}

void VolumeTable::leave(int64_t volume) {
  const absl::MutexLock lock(&mutex_);
  volumes_.erase(volume);
}

}  // namespace blobcache::tree
