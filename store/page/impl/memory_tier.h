#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/eviction.h"
#include "store/page/frame_pool.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/flight_table.h"
#include "store/page/impl/prefetch_ledger.h"
#include "store/page/slot_queue.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

class ObjectImpl;

/// L0: which extent each frame holds, and which goes when room is needed.
///
/// A thread of its own keeps a few free pages between two watermarks, so that a miss seldom evicts
/// by itself; it also wakes reads that found every frame pinned. What is in L0 is also on disk or
/// at a source, so evicting does no I/O.
///
/// Thread-safe. Lock order: mutex_, then a flight shard's.
class MemoryTier {
 public:
  /// `stale_after`: what waits for its reader for so long goes before all else.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<MemoryTier>> create(
      uint64_t budget_bytes, std::string_view eviction, absl::Duration stale_after,
      FlightTable& flights, PrefetchLedger& ledger, Counters& counters);
  ~MemoryTier();
  MemoryTier(const MemoryTier&) = delete;
  MemoryTier& operator=(const MemoryTier&) = delete;

  [[nodiscard]] FramePool& pool() { return pool_; }

  /// A hit on this frame: what the policy learns from. Lock-free.
  void use(uint32_t frame) { uses_.use(frame); }

  /// An exclusive frame with `wanted` charged, evicting others when there is none. Nothing when all
  /// are pinned. Call it with no lock held.
  [[nodiscard]] std::optional<FrameRef> acquire(PageMask wanted);
  /// Charges further pages of a frame that the caller has pinned, as FramePool::charge() does; an
  /// extent's lock may be held.
  [[nodiscard]] bool charge(uint32_t frame, PageMask pages);
  /// Evicts until about `pages` more could be charged. Returns false when nothing could go. No lock
  /// held.
  bool make_room(uint64_t pages);

  /// The frame is now the extent's: it may be evicted once nobody pins it. `ahead`: it was brought
  /// before anybody asked for it, and waits for its reader in a queue of its own, so that the
  /// policy does not judge it by what nobody could do yet. Call it with the frame pinned and no
  /// lock held.
  void adopt(uint32_t frame, ObjectImpl& object, uint64_t extent, bool ahead);
  /// Readers have come for all that was brought of it; the caller has it pinned. No lock held.
  void promote(uint32_t frame);
  /// Evicts what has waited for its reader for seconds.
  void drop_stale();
  /// Drops an object's frames; with `dying`, pinned ones are left to go when their pins do. Returns
  /// pages.
  uint64_t drop(ObjectImpl& object, bool dying);

  /// Calls `retry` soon, on the tier's thread, after trying to evict: for reads that found no
  /// frame. The store's admission bounds how many wait.
  void retry_later(absl::AnyInvocable<void()> retry);

  [[nodiscard]] uint64_t pinned_frames() const;

 private:
  struct Owner {
    ObjectImpl* object = nullptr;
    uint64_t extent = 0;
  };

  MemoryTier(uint64_t budget_bytes, absl::Duration stale_after, FlightTable& flights,
             PrefetchLedger& ledger, Counters& counters);

  [[nodiscard]] bool evict_one() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool evict_by_policy() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// The oldest of those that wait for their readers, or only if it is stale.
  [[nodiscard]] bool evict_waiting(bool only_stale) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Takes it out of the queue of those that wait.
  void end_waiting(uint32_t frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void hand_to_policy(uint32_t frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Takes the frame from its extent and frees it; false when it is pinned.
  [[nodiscard]] bool detach(uint32_t frame, const Owner& owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool has(uint64_t pages, uint64_t frames) const;
  void wake_if_low();
  [[nodiscard]] bool has_retries();
  void run();

  FramePool pool_;
  UseCounters uses_;
  FlightTable& flights_;
  PrefetchLedger& ledger_;
  Counters& counters_;
  const int64_t stale_after_ns_;
  const uint64_t low_pages_;
  const uint64_t high_pages_;
  const uint64_t low_frames_;
  const uint64_t high_frames_;

  absl::Mutex mutex_;
  std::unique_ptr<EvictionPolicy> policy_ ABSL_GUARDED_BY(mutex_);
  std::vector<Owner> owners_ ABSL_GUARDED_BY(mutex_);
  ZeroVector<SlotLink> links_;
  SlotQueue waiting_ ABSL_GUARDED_BY(mutex_);
  /// Since when a frame waits for its reader; 0: it is the policy's.
  ZeroVector<int64_t> waits_since_ns_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex wake_mutex_;  ///< never held together with another
  bool ending_ ABSL_GUARDED_BY(wake_mutex_) = false;
  bool low_ ABSL_GUARDED_BY(wake_mutex_) = false;
  std::vector<absl::AnyInvocable<void()>> retries_ ABSL_GUARDED_BY(wake_mutex_);
  std::atomic<bool> wake_sent_{false};
  std::thread thread_;
};

}  // namespace blobcache::page
