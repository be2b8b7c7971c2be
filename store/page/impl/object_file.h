#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/object_key.h"

namespace blobcache::page {

/// The open files of one object: data and page map, opened at first use and closed with the object,
/// so that readers who hold the object go on reading when its name is gone. Thread-safe.
class ObjectFile {
 public:
  ObjectFile(DiskTier& disk, const ObjectKey& key, const Incarnation& incarnation, bool has_map)
      : disk_(disk), key_(key), incarnation_(incarnation), has_map_(has_map) {}

  /// Opens what is not open yet. DATA_LOSS for a data file that is gone, else the disk's error.
  [[nodiscard]] absl::Status open();

  /// Valid after open().
  [[nodiscard]] int data_fd() const { return data_.get(); }
  [[nodiscard]] int map_fd() const { return map_fd_.load(std::memory_order_acquire); }

  /// Reads of the map go to `fd` from now on. The damaged one stays open for reads under way.
  void replace_map(base::UniqueFd fd) {
    absl::MutexLock lock(&mutex_);
    map_fd_.store(fd.get(), std::memory_order_release);
    maps_.push_back(std::move(fd));
  }

 private:
  DiskTier& disk_;
  const ObjectKey key_;
  const Incarnation incarnation_;
  const bool has_map_;
  std::atomic<bool> opened_{false};
  absl::Mutex mutex_;
  bool loss_logged_ ABSL_GUARDED_BY(mutex_) = false;
  // Written once under mutex_, before opened_ is published; read freely after.
  base::UniqueFd data_;
  std::atomic<int> map_fd_{-1};
  std::vector<base::UniqueFd> maps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
