#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "store/page/eviction.h"
#include "store/page/frequency_sketch.h"
#include "store/page/ghost_queue.h"
#include "store/page/slot_queue.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// S3-FIFO's queues with W-TinyLFU's judge between them.
///
/// Newcomers enter a window. What leaves it used goes to the main queue; what leaves it unused is
/// compared with the main queue's next victim by how often each was used lately, as a sketch counts
/// it, and the rarer one goes (Einziger, Friedman, Manes: "TinyLFU", ACM ToS 2017). The newcomer
/// must be the more frequent: so a loop larger than the cache, where all are alike, keeps what is
/// there, and a scan changes nothing. What comes back soon after the window gave it up enters the
/// main queue (S3-FIFO, SOSP 2023), which is a FIFO that gives what was used up to three more
/// rounds.
///
/// The window grows when extents come back that a slightly larger one would have held, and shrinks
/// when those do that a slightly larger main queue would have held: the idea of ARC (Megiddo,
/// Modha, FAST 2003), looking at the margin only, as S3-FIFO-D does, so that a long loop does not
/// drive it. As in S3Fifo, uses count only some time after the read that brought the extent (the
/// correlation window of 2Q), and what comes while the cache fills is kept unjudged.
///
/// A hit only bumps a counter, so the sketch learns of uses when a queue's end looks at the slot.
///
/// Not thread-safe; the owner guards it. Memory: 17 bytes a slot, and about 40 more for each slot
/// in use.
class S3TinyLfu final : public EvictionPolicy {
 public:
  /// Shares are of the slots in use, 0 to 1.
  struct Tuning {
    double min_window;    ///< where the window begins, and what it never falls below
    double max_window;    ///< what it never grows beyond
    double remembered;    ///< how many of those that the window gave up are remembered
    double margin;        ///< how much larger a window or main queue is asked about
    double step;          ///< by how many slots one answer moves the window
    bool used_is_proven;  ///< what was used in the window needs no comparison
  };
  /// The best mean and worst case over the traces of bench/hit_ratio.
  static constexpr Tuning kAdaptive = {.min_window = 0.02,
                                       .max_window = 0.9,
                                       .remembered = 0.5,
                                       .margin = 0.05,
                                       .step = 3,
                                       .used_is_proven = true};
  /// W-TinyLFU as its authors have it, with a window of a hundredth and no memory but the sketch.
  static constexpr Tuning kWindowTinyLfu = {.min_window = 0.01,
                                            .max_window = 0.01,
                                            .remembered = 0,
                                            .margin = 0,
                                            .step = 0,
                                            .used_is_proven = false};

  S3TinyLfu(size_t slots, UseCounters& uses, const Tuning& tuning = kAdaptive);

  void insert(uint32_t slot, uint64_t identity) override;
  void erase(uint32_t slot) override;
  [[nodiscard]] std::optional<uint32_t> evict() override;
  void restore(uint32_t slot, uint64_t identity) override;
  [[nodiscard]] size_t size() const override { return window_size() + main_.size(); }

  /// The window's share of the slots in use, 0 to 1.
  [[nodiscard]] double window_share() const { return window_share_; }

 private:
  enum class Where : uint8_t { kNowhere, kFresh, kWindow, kMain };

  [[nodiscard]] SlotQueue& queue(Where where);
  [[nodiscard]] size_t window_size() const { return fresh_.size() + window_.size(); }
  [[nodiscard]] size_t slots(double share) const;
  void push(Where where, uint32_t slot);
  void remove(uint32_t slot);
  /// By `slots` more, or less; within the tuning's bounds.
  void widen(double slots);
  /// Whether the identity is remembered as given up by the window; adapts it to what is remembered.
  [[nodiscard]] bool returns(uint64_t identity);
  /// Makes the sketch larger when there are more slots in use than it is good for. It keeps what it
  /// knows of those.
  void grow_sketch();
  /// From the correlation window into the rest of the window: from now on uses count.
  void settle();
  /// The window's oldest, taken out. It must not be empty.
  [[nodiscard]] uint32_t pop_window();
  [[nodiscard]] std::optional<uint32_t> evict_window();
  /// Turns the main queue until its oldest is one that goes next; it must not be empty.
  [[nodiscard]] uint32_t next_of_main();
  [[nodiscard]] uint32_t give_up_main(uint32_t slot);

  const Tuning tuning_;
  UseCounters& uses_;
  ZeroVector<SlotLink> links_;
  ZeroVector<uint64_t> identities_;
  ZeroVector<Where> places_;
  // The window is these two, one after the other.
  SlotQueue fresh_;  ///< the correlation window
  SlotQueue window_;
  SlotQueue main_;
  FrequencySketch sketch_;
  GhostQueue from_window_;
  GhostQueue from_main_;
  double window_share_;
};

}  // namespace blobcache::page
