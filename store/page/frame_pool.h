#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "store/page/geometry.h"

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

/// The RAM of the memory tier: frames of one extent each, recycled for as long as the pool lives.
///
/// Virtual memory is reserved once, for 32 times as many frames as the budget could fill,
/// because what counts against the budget is pages touched: a frame that holds one page costs one
/// page. A frame that was full when it was released stays resident and is handed out again first
/// ("warm"), and so does one that held a single page, for the next request of that page's place:
/// hot paths, of whole extents and of random pages, never fault fresh memory. Other sparse frames
/// give their pages back to the kernel, and these do when the budget wants them.
///
/// Pins. A frame's pin count, its evicting bit and its generation are one atomic word. Readers go
/// from n to n + 1 pins by compare-and-swap and fail on another generation or on the evicting bit;
/// an evictor goes from no pins to evicting by compare-and-swap. So whoever holds a pin holds the
/// frame.
///
/// Thread-safe and lock-free, except that releasing a sparse frame calls madvise.
class FramePool {
 public:
  /// Reserves address space for `budget_bytes` (at least one extent). Aborts when the kernel
  /// refuses even that, since nothing can work without it.
  explicit FramePool(uint64_t budget_bytes);
  ~FramePool();
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  /// A frame with one pin, held by the caller, and pages `wanted` charged to the budget. Dense
  /// requests get warm frames first, sparse ones untouched frames. Nothing when no frame is free or
  /// the budget is full.
  [[nodiscard]] std::optional<FrameRef> acquire(PageMask wanted);

  /// Charges further pages of a frame that the caller has pinned. False, with nothing charged, when
  /// the budget is full. Two threads must not charge one frame at the same time.
  [[nodiscard]] bool charge(uint32_t index, PageMask wanted);

  /// Adds a pin, if the frame is still in the use that `ref` names and is not being evicted.
  [[nodiscard]] bool pin(FrameRef ref) {
    std::atomic<uint64_t>& state = frames_[ref.index].state;
    uint64_t word = state.load(std::memory_order_relaxed);
    do {
      if (generation_of(word) != ref.generation || (word & kEvicting) != 0) return false;
    } while (!state.compare_exchange_weak(word, word + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed));
    return true;
  }

  /// Adds a pin to a frame that the caller has pinned already.
  void pin_again(uint32_t index) { frames_[index].state.fetch_add(1, std::memory_order_relaxed); }

  void unpin(uint32_t index) { frames_[index].state.fetch_sub(1, std::memory_order_release); }

  /// From no pins to evicting; false when the frame is pinned or in another use. On success the
  /// caller alone has the frame and must release it.
  [[nodiscard]] bool begin_evict(FrameRef ref);

  /// Frees a frame after begin_evict.
  void release(uint32_t index);

  /// Frees a frame on which the caller has the only pin and that nobody else knows of.
  void release_pinned(FrameRef ref);

  [[nodiscard]] std::byte* data(uint32_t index) const {
    return memory_ + (uint64_t{index} << kExtentShift);
  }
  /// One extent of zeros that is nobody's frame and takes no memory: what reads of zero pages see.
  [[nodiscard]] std::byte* zeros() const {
    return memory_ + (uint64_t{frame_count_} << kExtentShift);
  }
  [[nodiscard]] FrameRef current(uint32_t index) const {
    return {index, generation_of(frames_[index].state.load(std::memory_order_relaxed))};
  }
  [[nodiscard]] bool pinned(uint32_t index) const {
    return (frames_[index].state.load(std::memory_order_relaxed) & kPins) != 0;
  }

  [[nodiscard]] uint32_t frame_count() const { return frame_count_; }
  /// Frames that were ever handed out: those below this index.
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
  static constexpr uint64_t kPins = (uint64_t{1} << 31) - 1;
  static constexpr uint64_t kEvicting = uint64_t{1} << 31;
  static constexpr uint32_t kNone = UINT32_MAX;
  /// From this many pages on a request is dense: it will likely fill its frame.
  static constexpr int kDensePages = 16;

  struct Frame {
    std::atomic<uint64_t> state{0};  ///< generation:32, evicting:1, pins:31
    std::atomic<PageMask> touched{0};
    std::atomic<uint32_t> next{kNone};
  };

  /// A stack of free frames: Treiber's, with a counter in the head word against ABA.
  struct alignas(64) FreeList {
    std::atomic<uint64_t> head{kNone};
    std::atomic<uint32_t> size{0};
  };

  /// The frames and the extent of zeros behind them.
  [[nodiscard]] uint64_t mapped_bytes() const {
    return (uint64_t{frame_count_} + 1) << kExtentShift;
  }
  static uint32_t generation_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

  void push(FreeList& list, uint32_t index);
  [[nodiscard]] std::optional<uint32_t> pop(FreeList& list);
  [[nodiscard]] std::optional<uint32_t> pop_cold();
  [[nodiscard]] bool charge_pages(uint64_t pages);
  [[nodiscard]] std::optional<uint32_t> pop_single(int page);
  bool drop_reserve();
  void give_back(uint32_t index);
  [[nodiscard]] FrameRef hand_out(uint32_t index);

  const uint64_t budget_pages_;
  const uint32_t frame_count_;
  std::byte* memory_ = nullptr;
  std::unique_ptr<Frame[]> frames_;
  FreeList warm_;                                 ///< every page touched
  FreeList cold_;                                 ///< no page touched
  std::array<FreeList, kPagesPerExtent> single_;  ///< just this one page touched
  std::atomic<int64_t> single_frames_{0};         ///< in single_; for a moment perhaps below 0
  std::atomic<uint32_t> next_dropped_{0};         ///< so that all of single_ give in turn
  std::atomic<uint32_t> never_used_{0};           ///< frames from here on are cold and in no list
  std::atomic<uint64_t> resident_{0};
};

}  // namespace blobcache::page
