#pragma once

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/checkpointer.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// Makes zero what a file that was shortened still has beyond its end, and gives the space back;
/// see FileLength. One cleaning at a time, a block of the map after the other.
///
/// Thread-safe.
class FileCleaner {
 public:
  FileCleaner(VolumeCore& core, Checkpointer& checkpointer)
      : core_(core), checkpointer_(checkpointer) {}

  /// On a caller's thread: true when there is nothing beyond the end, and now the file is known to
  /// be clean. Waits for nothing.
  [[nodiscard]] bool find_clean() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Blocks; on a worker. After an error the file stays as it is, stale.
  [[nodiscard]] absl::Status run() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] absl::StatusOr<std::vector<uint64_t>> blocks_from(uint64_t first);
  [[nodiscard]] absl::Status clean_block(uint64_t number, uint64_t begin);
  [[nodiscard]] absl::Status clean_extent(const BlockRef& block, uint64_t extent, uint64_t begin);

  VolumeCore& core_;
  Checkpointer& checkpointer_;
  absl::Mutex mutex_;  ///< before all others
};

}  // namespace blobcache::volume
