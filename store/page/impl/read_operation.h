#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/impl/admission.h"
#include "store/page/object.h"
#include "store/page/pending_read.h"

namespace blobcache::page {

struct Extent;
class ObjectImpl;
struct StoreCore;

/// One read that missed: pins a frame for each extent it touches, starts fetches for the pages that
/// nobody is bringing yet, waits for those and for the ones under way, and answers once.
///
/// The threads of the doors, of the ring and of the memory tier all meet here; `mutex_` guards the
/// outcome. Shared by the flights in which it waits; the answer goes out exactly once, also when it
/// is cancelled.
class ReadOperation final : public PendingWork, public std::enable_shared_from_this<ReadOperation> {
 public:
  /// Which bytes, and why. Value type.
  struct Order {
    uint64_t offset = 0;
    uint64_t length = 0;
    bool ahead = false;  ///< nobody has asked for them yet
  };

  /// The range lies within the object.
  ReadOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object, const Order& order,
                Object::ReadDone done);

  /// Begins; perhaps later, when there are places for it.
  void begin();
  /// One part's pages are all there, or will not come. No lock held.
  void part_done(size_t part, const absl::Status& status);
  /// Nobody has asked for it yet.
  [[nodiscard]] bool is_ahead() const { return ahead_; }
  /// Also leaves the flights, cancelling those that nobody else waits for.
  void cancel() override;

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

  /// One more of the page map's blocks is at hand, or will not come.
  void map_known();
  /// Once admitted.
  void start();
  /// Gives the part its frame and joins or starts its fetches; or sees that it is all zeros.
  void place_part(size_t part);
  /// Pins the extent's frame, giving it one first if need be. False when there is no memory now.
  [[nodiscard]] bool attach_frame(Part& part);
  /// Joins the fetches under way and starts what is missing. False when there is no memory now.
  [[nodiscard]] bool join(size_t part);
  /// Counts what this read has of an extent that it joined, of which it brings `fresh`.
  void count_pages(const Part& part, Extent& extent, PageMask missing, PageMask fresh);
  void leave_flights();
  void finish();
  [[nodiscard]] bool ended();

  StoreCore& core_;
  const std::shared_ptr<ObjectImpl> object_;
  const uint32_t shard_;  ///< of its pins
  absl::InlinedVector<Part, 2> parts_;
  const uint64_t length_;
  const bool ahead_;
  const Admission::Lane lane_;
  std::atomic<size_t> remaining_{0};  ///< map blocks, and then parts, that it waits for
  absl::Mutex mutex_;
  Object::ReadDone done_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  ///< answered
};

}  // namespace blobcache::page
