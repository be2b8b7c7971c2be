#pragma once

#include <atomic>
#include <cstdint>

#include "store/page/geometry.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/extent_table.h"

namespace blobcache::page {

/// The account of pages that were brought before anybody asked for them: Extent::unread has those
/// that nobody has read yet, and what becomes of each is counted. Thread-safe.
class PrefetchLedger {
 public:
  explicit PrefetchLedger(Counters& counters) : counters_(counters) {}

  /// Pages are on their way. With the extent's lock.
  void bring(Extent& extent, PageMask pages) {
    extent.unread.fetch_or(pages, std::memory_order_relaxed);
    unread_pages_.fetch_add(page_total(pages), std::memory_order_relaxed);
    counters_.add(Counters::kPrefetchedPages, page_total(pages));
  }
  /// A reader has come for some: those that were unread. Lock-free.
  PageMask read(Extent& extent, PageMask pages) {
    return take(extent, pages, Counters::kPrefetchUsedPages);
  }
  /// They will not come. With the extent's lock.
  void fail(Extent& extent, PageMask pages) {
    (void)take(extent, pages, Counters::kPrefetchFailedPages);
  }
  /// The extent has lost its frame: whether unread pages went with it. With the extent's lock.
  bool evict(Extent& extent) {
    return take(extent, ~PageMask{0}, Counters::kPrefetchEvictedPages) != 0;
  }

  /// Bytes that are on their way or unread.
  [[nodiscard]] uint64_t unread_bytes() const {
    return unread_pages_.load(std::memory_order_relaxed) << kPageShift;
  }

 private:
  PageMask take(Extent& extent, PageMask pages, Counters::Name name) {
    if ((extent.unread.load(std::memory_order_relaxed) & pages) == 0) return 0;
    const PageMask taken = pages & extent.unread.fetch_and(~pages, std::memory_order_relaxed);
    unread_pages_.fetch_sub(page_total(taken), std::memory_order_relaxed);
    counters_.add(name, page_total(taken));
    return taken;
  }

  Counters& counters_;
  std::atomic<uint64_t> unread_pages_{0};
};

}  // namespace blobcache::page
