#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/object.h"
#include "store/page/pending_read.h"

namespace blobcache::page {

class ObjectImpl;
struct StoreCore;
struct Extent;

/// One look at an object's page map: brings the blocks that its extents have not been told of, a
/// few at once, and then reads the extents' words, until the range is told or there are enough
/// runs.
///
/// The blocks of a batch may come on several threads; the last one goes on, so the runs need no
/// lock. The answer goes out exactly once, also when it is cancelled.
class MapOperation final : public PendingWork, public std::enable_shared_from_this<MapOperation> {
 public:
  /// The range lies within the object and is at most Object::kMaxMapped long.
  MapOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object, uint64_t offset,
               uint64_t length, size_t max_runs, Object::MapDone done);

  void begin() { go_on(); }
  void cancel() override;

 private:
  /// Blocks that are asked for at once.
  static constexpr uint64_t kBatch = 16;

  /// One more block of the batch is at hand, or will not come.
  void block_known(const absl::Status& status);
  /// Goes on while no block has to be waited for.
  void go_on();
  /// Asks for the blocks of the next batch that are not known. False when some are under way.
  [[nodiscard]] bool load_batch();
  /// All of the batch is at hand: tells of it. False when that was the answer.
  [[nodiscard]] bool batch_known();
  /// Tells of the batch. False when the range or the room for runs is at its end.
  [[nodiscard]] bool tell_batch();
  [[nodiscard]] bool tell_extent(uint64_t index);
  [[nodiscard]] bool add(uint64_t length, Place place);
  void answer(absl::StatusOr<std::vector<MapRun>> result) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool ended() ABSL_LOCKS_EXCLUDED(mutex_);

  StoreCore& core_;
  const std::shared_ptr<ObjectImpl> object_;
  const uint64_t end_;
  const size_t max_runs_;
  const Place elsewhere_;  ///< where what no local tier has is
  uint64_t at_;            ///< up to where it is told
  uint64_t batch_end_;
  std::vector<MapRun> runs_;
  std::atomic<size_t> remaining_{0};  ///< blocks of the batch, and one for who asks for them
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  Object::MapDone done_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  ///< answered
};

}  // namespace blobcache::page
