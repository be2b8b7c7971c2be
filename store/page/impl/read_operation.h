#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/object.h"

namespace blobcache::page {

class ObjectImpl;
struct StoreCore;

/// One read that missed: pins a frame for each extent it touches, starts fetches for the pages that
/// nobody is bringing yet, waits for those and for the ones under way, and answers once.
///
/// The threads of the doors, of the ring and of the memory tier all meet here; `mutex_` guards the
/// outcome. Shared by the flights in which it waits; the answer goes out exactly once, also when it
/// is cancelled.
class ReadOperation : public std::enable_shared_from_this<ReadOperation> {
 public:
  /// The range lies within the object.
  ReadOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object, uint64_t offset,
                uint64_t length, Object::ReadDone done);

  /// How many extents it touches: its places in the admission.
  [[nodiscard]] uint64_t extents() const { return parts_.size(); }

  /// Begins, once admitted.
  void start();
  /// One part's pages are all there, or will not come. No lock held.
  void part_done(size_t part, const absl::Status& status);
  /// Answers CANCELLED now; leaves the flights, cancelling those that nobody else waits for.
  void cancel();

 private:
  static constexpr uint32_t kNoFrame = UINT32_MAX;

  /// The read's share of one extent.
  struct Part {
    uint64_t index = 0;
    uint64_t begin = 0;  ///< bytes, absolute
    uint64_t end = 0;
    PageMask wanted = 0;
    uint32_t frame = kNoFrame;  ///< pinned by this read
    bool is_zero = false;       ///< all of it, so that it needs no frame
  };

  /// Finds out where the part's pages are.
  void begin_part(size_t part);
  /// Gives the part its frame and joins or starts its fetches; or sees that it is all zeros.
  void place_part(size_t part);
  /// Pins the extent's frame, giving it one first if need be. False when there is no memory now.
  [[nodiscard]] bool attach_frame(Part& part);
  /// Joins the fetches under way and starts what is missing. False when there is no memory now.
  [[nodiscard]] bool join(size_t part);
  void leave_flights();
  void finish();
  [[nodiscard]] bool ended();

  StoreCore& core_;
  const std::shared_ptr<ObjectImpl> object_;
  absl::InlinedVector<Part, 2> parts_;
  std::atomic<size_t> remaining_{0};
  absl::Mutex mutex_;
  Object::ReadDone done_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  ///< answered
};

}  // namespace blobcache::page
