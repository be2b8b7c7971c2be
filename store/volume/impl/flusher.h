#pragma once

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/volume/impl/volume_core.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// Makes what was written durable. All who ask while a flush is under way share the next one.
///
/// The data is synced, then a record says so in the journal: after a power cut only the states that
/// were recorded before the last such record count, since of the others the data may be missing. A
/// volume whose pages were all its own before needs no record, and so one sync.
///
/// Of a file volume, which is made without a sync, the first flush makes its files and their names
/// durable as well.
///
/// Thread-safe.
class Flusher {
 public:
  explicit Flusher(VolumeCore& core) : core_(core), names_are_durable_(!core.is_file) {}

  /// Adds the `done` of an operation that has begun, and ends it then. True when the caller is to
  /// have run() called on a worker.
  [[nodiscard]] bool add(Done done);
  /// Flushes until nobody waits.
  void run();
  /// What the first flush of a file does beside a flush. When no flush is under way.
  [[nodiscard]] absl::Status sync_names();

 private:
  [[nodiscard]] absl::Status flush();

  VolumeCore& core_;
  absl::Mutex mutex_;
  std::vector<Done> waiting_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  // By who runs.
  uint64_t flushed_ = 1;  ///< states before this record are
  bool names_are_durable_;
};

}  // namespace blobcache::volume
