#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/pinned_range.h"
#include "store/volume/impl/cut_state.h"
#include "store/volume/impl/page_reader.h"
#include "store/volume/impl/volume_impl.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// A read that has to wait, for the disk or the base. What the volume has itself is read on a
/// worker, then the base is asked for all that it has to bring at once.
class ReadOperation : public std::enable_shared_from_this<ReadOperation> {
 public:
  /// Of `cut`, if there is one. An operation of the volume that has begun.
  ReadOperation(std::shared_ptr<VolumeImpl> volume, std::shared_ptr<CutState> cut,
                const ReadPart& part, Done done);

  /// On a worker, once.
  void run();

 private:
  [[nodiscard]] absl::Status read_own(MissingParts& missing);
  void ask_base(const ReadPart& part);
  void take_base(const ReadPart& part, absl::StatusOr<page::PinnedRange> bytes);
  void note(const absl::Status& status);
  void finish();

  const std::shared_ptr<VolumeImpl> volume_;
  const std::shared_ptr<CutState> cut_;
  const ReadPart part_;
  Done done_;
  std::atomic<size_t> pending_{1};  ///< answers of the base, and run() itself
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  ///< the first error
};

}  // namespace blobcache::volume
