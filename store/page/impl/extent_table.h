#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "store/page/geometry.h"

namespace blobcache::page {

/// What the store knows of one extent: one cache line.
///
/// `frame` and `in_memory` are read without a lock by the hit path (pin the frame, see that `frame`
/// still names it, then read `in_memory`). Everything is written under the extent's lock (see
/// FlightTable).
struct alignas(64) Extent {
  static constexpr uint64_t kNoFrame = UINT64_MAX;

  std::atomic<uint64_t> frame{kNoFrame};  ///< FrameRef::to_word()
  std::atomic<PageMask> in_memory{0};     ///< pages whose bytes in the frame are checked and final
  std::atomic<PageMask> on_disk{0};       ///< pages with data in the disk file
  std::atomic<PageMask> zero{0};          ///< pages known to be zero, which no tier stores
  PageMask in_flight = 0;               ///< pages that a fetch is bringing; under the extent's lock
  std::atomic<bool> map_loaded{false};  ///< on_disk and zero say what the page map says

  /// All of `pages` are zeros. Lock-free; once true it stays true.
  [[nodiscard]] bool known_zero(PageMask pages) const {
    return map_loaded.load(std::memory_order_acquire) &&
           (pages & ~zero.load(std::memory_order_relaxed)) == 0;
  }
};
static_assert(sizeof(Extent) == 64);

/// An object's extents by index: two levels, so that only what was touched takes memory (4 KiB for
/// 64 extents, and 8 bytes for every 16 MiB of the object). Thread-safe; extents stay where they
/// are until the table dies.
class ExtentTable {
 public:
  explicit ExtentTable(uint64_t extents)
      : chunk_count_((extents + kChunk - 1) / kChunk),
        chunks_(std::make_unique<std::atomic<Chunk*>[]>(chunk_count_)) {}
  ~ExtentTable() {
    for (uint64_t i = 0; i < chunk_count_; ++i) {
      const std::unique_ptr<Chunk> chunk(chunks_[i].load(std::memory_order_acquire));
    }
  }
  ExtentTable(const ExtentTable&) = delete;
  ExtentTable& operator=(const ExtentTable&) = delete;

  /// The extent, or nullptr when it was never touched. `index` is less than the number of extents.
  [[nodiscard]] Extent* find(uint64_t index) const {
    Chunk* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : &(*chunk)[index % kChunk];
  }

  [[nodiscard]] Extent& get(uint64_t index) {
    if (Extent* extent = find(index)) return *extent;
    auto made = std::make_unique<Chunk>();
    Chunk* expected = nullptr;
    std::atomic<Chunk*>& place = chunks_[index / kChunk];
    if (place.compare_exchange_strong(expected, made.get(), std::memory_order_acq_rel)) {
      return (*made.release())[index % kChunk];
    }
    return (*expected)[index % kChunk];
  }

  /// Calls visit(index, extent) for every extent that was touched (and its neighbours in the
  /// chunk).
  template <typename Visit>
  void for_each_touched(uint64_t extents, const Visit& visit) const {
    for (uint64_t c = 0; c < chunk_count_; ++c) {
      Chunk* chunk = chunks_[c].load(std::memory_order_acquire);
      if (chunk == nullptr) continue;
      for (uint64_t i = 0; i < kChunk && c * kChunk + i < extents; ++i) {
        visit(c * kChunk + i, (*chunk)[i]);
      }
    }
  }

 private:
  static constexpr uint64_t kChunk = 64;
  using Chunk = std::array<Extent, kChunk>;

  const uint64_t chunk_count_;
  std::unique_ptr<std::atomic<Chunk*>[]> chunks_;
};

}  // namespace blobcache::page
