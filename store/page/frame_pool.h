#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "store/page/geometry.h"
#include "store/page/zero_vector.h"

namespace blobcache::page {

/// Names one use of one frame: the frame's index and the generation it had when it was handed out.
/// A frame that is evicted gets a new generation, so an old reference never passes for a new one.
/// Value type.
struct FrameRef {
  uint32_t index = 0;
  uint32_t generation = 0;

  friend bool operator==(const FrameRef&, const FrameRef&) = default;

  [[nodiscard]] uint64_t to_word() const { return uint64_t{generation} << 32 | index; }
  [[nodiscard]] static FrameRef from_word(uint64_t word) {
    return {static_cast<uint32_t>(word), static_cast<uint32_t>(word >> 32)};
  }
};

/// One pin on a frame, and the shard that counts it; see FramePool. Value type: whoever has taken
/// it over gives it back, once.
struct Pin {
  uint32_t frame = 0;
  uint32_t shard = 0;
};

/// The RAM of the memory tier: frames of one extent each, recycled for as long as the pool lives.
///
/// Virtual memory is reserved once, for 32 times as many frames as the budget could fill,
/// because what counts against the budget is pages touched: a frame that holds one page costs one
/// page. A frame that was full when it was released stays resident and is handed out again first
/// ("warm"), and so does one that held a single page, for the next request of that page's place:
/// hot paths, of whole extents and of random pages, never fault fresh memory. Other sparse frames
/// give their pages back to the kernel, and these do when the budget wants them.
///
/// Requests of whole extents get their frames from slabs while the budget has room, once a slab's
/// worth of frames is in use: 2 MiB, all charged and touched at once, so that the kernel can give
/// one huge page. A disk that is told one place instead of 64 reads a good deal faster. The slab's
/// frames are frames as all others from then on, and never become a huge page again once one has
/// given pages back.
///
/// A frame has two states. *Exclusive*: free, just acquired, or being evicted; one thread has it,
/// or a free list. *Open*: whoever holds a pin reads it. acquire() hands out an exclusive frame,
/// open() opens it with a first pin, begin_evict() makes it exclusive again, release() frees it.
///
/// Pins. Two threads that hit on the same frame must not write to one cache line, so pins are
/// counted in shards, each an array of one counter a frame. A frame's word, its generation and the
/// exclusive bit, is only read by a hit. A pin belongs to the shard that its holder chose for it,
/// by the processor it runs on (this_shard()), and is given back to the same one, on whatever
/// thread; so every counter is exact and never below zero.
///
///     pin           P1 load the word, P2 counter += 1, P3 load the word again;
///                   another generation or exclusive at P1: no pin; at P3: counter -= 1, no pin
///     begin_evict   E1 open -> exclusive by compare-and-swap, E2 load the counter of each shard;
///                   one that is not 0: back to open, not evicted
///
/// No frame is evicted while it is pinned. P2, P3, E1 and E2 are sequentially consistent, so all of
/// them lie in one order, and P2 comes before E2 of the same counter or after it. Before: E2 sees
/// the pin, or the pin was given back already. After: E1 < E2 < P2 < P3, so P3 sees what E1 wrote
/// or something later: exclusive (no pin), a later generation (no pin), or open in the same
/// generation, which means that this eviction has failed. E2 looks at one counter after the other,
/// which is enough as a pin never moves: pin_again() counts in the shard of the pin it is made
/// from, so that shard does not drop to 0 in between.
///
/// The bytes: open() publishes the word with release, and P3 acquires it. unpin() is a release, and
/// a counter changes by read-modify-write only, so an E2 that reads 0 has acquired every unpin of
/// its shard: the readers have read before the evictor writes. A pin that fails at P3 may show in
/// the counter for a moment, even after the frame has got another use. That makes an eviction
/// fail, never succeed.
///
/// Thread-safe and lock-free, except that releasing a sparse frame calls madvise.
class FramePool {
 public:
  static constexpr uint32_t kMaxShards = 8;

  /// Reserves address space for `budget_bytes` (at least one extent). Aborts when the kernel
  /// refuses even that, since nothing can work without it. There are as many shards as
  /// `processors`, at most kMaxShards, rounded down to a power of two.
  explicit FramePool(uint64_t budget_bytes, uint32_t processors = all_processors());
  ~FramePool();
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  /// The shard for pins that the calling thread is about to take: that of its processor. Less than
  /// kMaxShards. A nanosecond or two; take it once for all pins of a range.
  [[nodiscard]] uint32_t this_shard() const {
    return static_cast<uint32_t>(::sched_getcpu()) & (shards_ - 1);
  }

  /// An exclusive frame with pages `wanted` charged to the budget. The caller opens or releases it.
  /// Dense requests get warm frames first, sparse ones untouched frames. Nothing when no frame is
  /// free or the budget is full.
  [[nodiscard]] std::optional<FrameRef> acquire(PageMask wanted) {
    // An optional that comes out of a call comes by way of memory, two words that are read as one,
    // which takes a fifth of the whole.
    const uint64_t word = acquire_word(wanted);
    if (word == kNoFrame) return std::nullopt;
    return FrameRef::from_word(word);
  }

  /// Opens an acquired frame, with one pin that the caller holds.
  void open(FrameRef ref, uint32_t shard) {
    pins(ref.index, shard).fetch_add(1, std::memory_order_relaxed);
    frames_[ref.index].word.store(open_word(ref.generation), std::memory_order_release);
  }

  /// Charges further pages of a frame that the caller has pinned. False, with nothing charged, when
  /// the budget is full. Two threads must not charge one frame at the same time.
  [[nodiscard]] bool charge(uint32_t index, PageMask wanted);

  /// Adds a pin, if the frame is open and still in the use that `ref` names. It may also fail while
  /// another thread tries to evict the frame, in vain: ask once more under a lock that excludes
  /// evictors before taking the frame for gone.
  [[nodiscard]] bool pin(FrameRef ref, uint32_t shard) {
    const std::atomic<uint64_t>& word = frames_[ref.index].word;
    const uint64_t open = open_word(ref.generation);
    if (word.load(std::memory_order_relaxed) != open) return false;
    pins(ref.index, shard).fetch_add(1, std::memory_order_seq_cst);
    if (word.load(std::memory_order_seq_cst) == open) return true;
    unpin({ref.index, shard});
    return false;
  }

  /// Makes a second pin of one that the caller has: just like it, in the same shard.
  void pin_again(Pin pin) { pins(pin.frame, pin.shard).fetch_add(1, std::memory_order_relaxed); }

  /// Gives a pin back, on whatever thread.
  void unpin(Pin pin) { pins(pin.frame, pin.shard).fetch_sub(1, std::memory_order_release); }

  /// From open without pins to exclusive; false when the frame is pinned or in another use. On
  /// success the caller alone has the frame and must release it.
  [[nodiscard]] bool begin_evict(FrameRef ref);

  /// Frees an exclusive frame: after begin_evict, or an acquired one that was not opened.
  void release(uint32_t index);

  [[nodiscard]] std::byte* data(uint32_t index) const {
    return memory_ + (uint64_t{index} << kExtentShift);
  }
  [[nodiscard]] FrameRef current(uint32_t index) const {
    return {index, generation_of(frames_[index].word.load(std::memory_order_relaxed))};
  }
  /// Somebody holds a pin, at the moment.
  [[nodiscard]] bool pinned(uint32_t index) const;

  [[nodiscard]] uint32_t frame_count() const { return frame_count_; }
  /// Frames that were ever handed out, or in a slab: those below this index.
  [[nodiscard]] uint32_t used_frames() const { return never_used_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t budget_pages() const { return budget_pages_; }
  /// Pages that are resident: touched since the kernel last had them.
  [[nodiscard]] uint64_t resident_pages() const {
    return resident_.load(std::memory_order_relaxed);
  }
  /// What acquire() could hand out before anything must be evicted: pages, and frames for them.
  [[nodiscard]] uint64_t available_pages() const;
  [[nodiscard]] uint64_t available_frames() const;

 private:
  /// A word is generation:32, then this bit. All zeros, as memory begins, is a frame that was never
  /// handed out: exclusive, so that the bit stands for open.
  static constexpr uint64_t kOpen = 1;
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint64_t kNoFrame = UINT64_MAX;  ///< as the word of a FrameRef
  /// From this many pages on a request is dense: it will likely fill its frame.
  static constexpr uint64_t kDensePages = 16;
  static constexpr uint64_t kSlabSize = uint64_t{2} << 20;
  static constexpr uint32_t kSlabFrames = kSlabSize / kExtentSize;

  struct Frame {
    std::atomic<uint64_t> word{0};
    std::atomic<PageMask> touched{0};
    /// In a free list, depth:32 next:32: how many are in it up to here, and the one below. One
    /// word, as a swap waits for every store before it.
    std::atomic<uint64_t> link{0};
  };

  /// A stack of free frames: Treiber's, with a counter in the head word against ABA. Each frame in
  /// it knows how many are in it from there down, which never changes while it is in it; so the
  /// stack's size costs no counter of its own.
  struct alignas(64) FreeList {
    std::atomic<uint64_t> head{kNone};
  };

  /// The frames, and what it takes to begin where a slab does.
  [[nodiscard]] uint64_t mapped_bytes() const {
    return (uint64_t{frame_count_} << kExtentShift) + kSlabSize;
  }
  static uint32_t generation_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
  static uint64_t open_word(uint32_t generation) { return uint64_t{generation} << 32 | kOpen; }
  static uint64_t exclusive_word(uint32_t generation) { return uint64_t{generation} << 32; }
  [[nodiscard]] const std::atomic<uint32_t>& pins(uint32_t index, uint32_t shard) const {
    return pins_[shard * shard_size_ + index];
  }
  [[nodiscard]] std::atomic<uint32_t>& pins(uint32_t index, uint32_t shard) {
    return pins_[shard * shard_size_ + index];
  }
  static uint32_t all_processors();

  void push(FreeList& list, uint32_t index);
  // Of these, kNone for nothing.
  [[nodiscard]] uint32_t pop(FreeList& list);
  /// As of a moment, or about that while others push and pop.
  [[nodiscard]] uint32_t size(const FreeList& list) const;
  [[nodiscard]] uint32_t pop_cold();
  /// The first frame of a new slab; the others are warm. Nothing when the budget has no room.
  [[nodiscard]] uint32_t pop_slab();
  /// A FrameRef as a word, or kNoFrame.
  [[nodiscard]] uint64_t acquire_word(PageMask wanted);
  [[nodiscard]] uint32_t acquire_cold(PageMask wanted);
  [[nodiscard]] bool charge_pages(uint64_t pages);
  [[nodiscard]] uint32_t pop_single(int page);
  bool drop_reserve();
  void give_back(uint32_t index);

  const uint64_t budget_pages_;
  const uint32_t frame_count_;
  const uint32_t shards_;      ///< a power of two
  const uint64_t shard_size_;  ///< counters, with some to spare
  void* mapping_ = nullptr;
  std::byte* memory_ = nullptr;  ///< within mapping_, aligned to slabs
  ZeroVector<Frame> frames_;
  ZeroVector<std::atomic<uint32_t>> pins_;        ///< shards_ times shard_size_
  FreeList warm_;                                 ///< every page touched
  FreeList cold_;                                 ///< no page touched
  std::array<FreeList, kPagesPerExtent> single_;  ///< just this one page touched
  std::atomic<int64_t> single_frames_{0};         ///< in single_; for a moment perhaps below 0
  std::atomic<uint32_t> next_dropped_{0};         ///< so that all of single_ give in turn
  std::atomic<uint32_t> never_used_{0};           ///< frames from here on are cold and in no list
  std::atomic<uint64_t> resident_{0};
};

}  // namespace blobcache::page
