#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "store/page/geometry.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/extent_table.h"

namespace blobcache::page {

/// The account of pages that were brought before anybody asked for them: Extent::unread has those
/// that nobody has read yet, and what becomes of each is counted. What sources bring and what the
/// disk brings are accounts of their own. Thread-safe.
class PrefetchLedger {
 public:
  enum class From : uint8_t { kDisk, kSource };

  explicit PrefetchLedger(Counters& counters) : counters_(counters) {}

  /// Bytes are about to be brought, once there are places for that; and then they are begun.
  void plan(From from, uint64_t bytes) { bytes_of(from).fetch_add(bytes, kRelaxed); }
  void begin(From from, uint64_t bytes) { bytes_of(from).fetch_sub(bytes, kRelaxed); }
  /// Pages are on their way. With the extent's lock.
  void bring(From from, Extent& extent, PageMask pages) {
    extent.unread.fetch_or(pages, kRelaxed);
    bytes_of(from).fetch_add(bytes_in(pages), kRelaxed);
    counters_.add(Counters::kPrefetchedPages, page_total(pages));
  }
  /// A reader has come for some: those that were unread. Lock-free.
  PageMask read(From from, Extent& extent, PageMask pages) {
    return take(from, extent, pages, Counters::kPrefetchUsedPages);
  }
  /// They will not come. With the extent's lock.
  void fail(From from, Extent& extent, PageMask pages) {
    (void)take(from, extent, pages, Counters::kPrefetchFailedPages);
  }
  /// The extent has lost its frame: whether unread pages went with it. With the extent's lock.
  bool evict(From from, Extent& extent) {
    return take(from, extent, ~PageMask{0}, Counters::kPrefetchEvictedPages) != 0;
  }

  /// Bytes that are planned, on their way or unread.
  [[nodiscard]] uint64_t unread_bytes(From from) const {
    return unread_bytes_.at(static_cast<size_t>(from)).load(kRelaxed);
  }
  [[nodiscard]] uint64_t unread_bytes() const {
    return unread_bytes(From::kDisk) + unread_bytes(From::kSource);
  }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  static uint64_t bytes_in(PageMask pages) { return uint64_t{page_total(pages)} << kPageShift; }
  std::atomic<uint64_t>& bytes_of(From from) { return unread_bytes_.at(static_cast<size_t>(from)); }
  PageMask take(From from, Extent& extent, PageMask pages, Counters::Name name) {
    if ((extent.unread.load(kRelaxed) & pages) == 0) return 0;
    const PageMask taken = pages & extent.unread.fetch_and(~pages, kRelaxed);
    bytes_of(from).fetch_sub(bytes_in(taken), kRelaxed);
    counters_.add(name, page_total(taken));
    return taken;
  }

  Counters& counters_;
  std::array<std::atomic<uint64_t>, 2> unread_bytes_{};
};

}  // namespace blobcache::page
