#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace blobcache::page {

/// Counters that every reading thread bumps: each thread has a row of its own (threads beyond the
/// number of rows share), so that counting costs no cache line ping-pong on the hit path.
/// Thread-safe.
class Counters {
 public:
  enum Name : size_t {
    kReads,
    kReadErrors,
    kMemoryHitPages,
    kDiskHitPages,
    kRemoteHitPages,
    kZeroPages,
    kSharedFlightPages,
    kDiskReadBytes,
    kDiskWrittenBytes,
    kRemoteFetchedBytes,
    kChecksumErrors,
    kSourceChecksumErrors,
    kMapErrors,
    kMapsRebuilt,
    kSyncs,
    kDiskErrors,
    kMemoryEvictedExtents,
    kDiskEvictedBytes,
    kFilledBytes,
    kFillDroppedBytes,
    kPrefetchedPages,
    kPrefetchUsedPages,
    kPrefetchLatePages,
    kPrefetchEvictedPages,
    kPrefetchFailedPages,
    kNames,
  };

  void add(Name name, uint64_t amount = 1) {
    rows_[row()].values[name].fetch_add(amount, std::memory_order_relaxed);
  }

  [[nodiscard]] uint64_t sum(Name name) const {
    uint64_t total = 0;
    for (const Row& row : rows_) total += row.values[name].load(std::memory_order_relaxed);
    return total;
  }

 private:
  static constexpr size_t kRows = 32;
  struct alignas(64) Row {
    std::array<std::atomic<uint64_t>, kNames> values{};
  };

  static size_t row() {
    static std::atomic<size_t> next_row{0};
    thread_local size_t mine = next_row.fetch_add(1, std::memory_order_relaxed) % kRows;
    return mine;
  }

  std::array<Row, kRows> rows_{};
};

}  // namespace blobcache::page
