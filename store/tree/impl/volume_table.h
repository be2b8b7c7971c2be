#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/volumes.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

/// The volumes that somebody has open, by the row of the catalog: one for all who use it, opened
/// for the first and closed by the last. Who asks for one that is being opened or closed waits.
/// Thread-safe. Every VolumeRef must be gone before the table.
class VolumeTable {
 public:
  using Open = absl::FunctionRef<absl::StatusOr<std::shared_ptr<volume::Volume>>()>;
  using Closed = std::function<void()>;

  /// Keeps a volume from being opened for as long as this lives.
  class Barrier {
   public:
    Barrier(VolumeTable& table, int64_t volume) : table_(table), volume_(volume) {}
    ~Barrier() { table_.leave(volume_); }
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;

   private:
    VolumeTable& table_;
    const int64_t volume_;
  };

  /// The volume: the one in use, or what `open` gives, which is not called otherwise; both
  /// functions are called without a lock. `closed` is called when the volume has been closed and
  /// before it is opened again.
  [[nodiscard]] absl::StatusOr<VolumeRef> get(int64_t volume, Open open, Closed closed)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// The volume, if it is in use.
  [[nodiscard]] VolumeRef find(int64_t volume) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Nothing while it is in use.
  [[nodiscard]] std::unique_ptr<Barrier> bar(int64_t volume) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void leave(int64_t volume) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Returns when it is open or not there: not while it is being opened, closed or removed.
  void await_settled(int64_t volume) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  /// Of a volume that is being opened, closed or removed: expired.
  absl::flat_hash_map<int64_t, std::weak_ptr<volume::Volume>> volumes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
