#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

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
  std::atomic<PageMask> verified{0};      ///< see Lending
  std::atomic<PageMask> unread{0};        ///< see PrefetchLedger
  PageMask in_flight = 0;               ///< pages that a fetch is bringing; under the extent's lock
  std::atomic<bool> map_loaded{false};  ///< on_disk and zero say what the page map says

  /// All of `pages` are zeros. Lock-free; once true it stays true.
  [[nodiscard]] bool known_zero(PageMask pages) const {
    return map_loaded.load(std::memory_order_acquire) &&
           (pages & ~zero.load(std::memory_order_relaxed)) == 0;
  }
};
static_assert(sizeof(Extent) == 64);

/// An object's extents by index: two levels, so that only what was touched takes memory: 4 KiB for
/// 64 extents (a small object has a chunk of just its own), and 8 bytes for every 16 MiB of the
/// object, which the kernel gives only where they are written. Thread-safe; extents stay where they
/// are until the table dies.
class ExtentTable {
 public:
  /// `total_bytes` counts what all tables take.
  ExtentTable(uint64_t extents, std::atomic<uint64_t>& total_bytes)
      : extents_(extents),
        total_bytes_(total_bytes),
        chunk_count_((extents + kChunk - 1) / kChunk),
        chunks_(allocate(chunk_count_)) {}
  ~ExtentTable() {
    for (uint64_t i = 0; i < chunk_count_; ++i) {
      const std::unique_ptr<Extent[]> chunk(chunks_[i].load(std::memory_order_acquire));
    }
    std::free(chunks_);  // NOLINT: from calloc
    total_bytes_.fetch_sub(bytes(), std::memory_order_relaxed);
  }
  ExtentTable(const ExtentTable&) = delete;
  ExtentTable& operator=(const ExtentTable&) = delete;

  /// The extent, or nullptr when it was never touched. `index` is less than the number of extents.
  [[nodiscard]] Extent* find(uint64_t index) const {
    Extent* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : &chunk[index % kChunk];
  }

  [[nodiscard]] Extent& get(uint64_t index) {
    if (Extent* extent = find(index)) return *extent;
    const uint64_t number = index / kChunk;
    auto made = std::make_unique<Extent[]>(chunk_size(number));
    Extent* expected = nullptr;
    if (chunks_[number].compare_exchange_strong(expected, made.get(), std::memory_order_acq_rel)) {
      const uint64_t bytes = chunk_size(number) * sizeof(Extent);
      bytes_.fetch_add(bytes, std::memory_order_relaxed);
      total_bytes_.fetch_add(bytes, std::memory_order_relaxed);
      return made.release()[index % kChunk];
    }
    return expected[index % kChunk];
  }

  /// What its descriptors take.
  [[nodiscard]] uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  /// Calls visit(index, extent) for every extent that was touched (and its neighbours in the
  /// chunk).
  template <typename Visit>
  void for_each_touched(const Visit& visit) const {
    for (uint64_t number = 0; number < chunk_count_; ++number) {
      Extent* chunk = chunks_[number].load(std::memory_order_acquire);
      if (chunk == nullptr) continue;
      for (uint64_t i = 0; i < chunk_size(number); ++i) visit(number * kChunk + i, chunk[i]);
    }
  }

 private:
  static constexpr uint64_t kChunk = 64;
  using Place = std::atomic<Extent*>;

  /// calloc, since large stretches of it are zero pages of the kernel's that cost nothing before
  /// they are written; and all bits zero is a null pointer here.
  static Place* allocate(uint64_t places) {
    void* memory = std::calloc(std::max<uint64_t>(places, 1), sizeof(Place));  // NOLINT
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<Place*>(memory);
  }

  [[nodiscard]] uint64_t chunk_size(uint64_t number) const {
    return std::min(kChunk, extents_ - number * kChunk);
  }

  const uint64_t extents_;
  std::atomic<uint64_t>& total_bytes_;
  std::atomic<uint64_t> bytes_{0};
  const uint64_t chunk_count_;
  Place* const chunks_;
};

}  // namespace blobcache::page
