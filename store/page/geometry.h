#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace blobcache::page {

/// A page is the unit of validity, checksum and accounting; an extent is 64 pages, so that the
/// states of its pages are single 64-bit words. Both are aligned at the object's own offsets.
inline constexpr uint32_t kPageShift = 12;
inline constexpr uint32_t kExtentShift = 18;
inline constexpr uint64_t kPageSize = uint64_t{1} << kPageShift;
inline constexpr uint64_t kExtentSize = uint64_t{1} << kExtentShift;
inline constexpr uint32_t kPagesPerExtent = 64;
static_assert(kExtentSize / kPageSize == kPagesPerExtent);

/// No object is larger than 1 PiB: even of one that is all hole the table of extents stays
/// affordable.
inline constexpr uint64_t kMaxObjectSize = uint64_t{1} << 50;

/// One bit a page of an extent; bit 0 is the extent's first page.
using PageMask = uint64_t;

[[nodiscard]] constexpr uint64_t page_count(uint64_t size_bytes) {
  return (size_bytes + kPageSize - 1) >> kPageShift;
}
[[nodiscard]] constexpr uint64_t extent_count(uint64_t size_bytes) {
  return (size_bytes + kExtentSize - 1) >> kExtentShift;
}

/// The mask of pages [first, first + count) of one extent; first + count is at most 64.
[[nodiscard]] constexpr PageMask page_mask(uint32_t first, uint32_t count) {
  if (count == 0) return 0;
  const PageMask low = count == kPagesPerExtent ? ~PageMask{0} : (PageMask{1} << count) - 1;
  return low << first;
}

[[nodiscard]] constexpr uint32_t page_total(PageMask pages) {
  return static_cast<uint32_t>(std::popcount(pages));
}
/// The lowest page; 64 for none.
[[nodiscard]] constexpr uint32_t first_page(PageMask pages) {
  return static_cast<uint32_t>(std::countr_zero(pages));
}

/// Calls visit(run) for each stretch of adjacent pages, from low to high.
template <typename Visit>
void for_each_run(PageMask pages, const Visit& visit) {
  while (pages != 0) {
    const uint32_t first = first_page(pages);
    const PageMask run = page_mask(first, static_cast<uint32_t>(std::countr_one(pages >> first)));
    pages &= ~run;
    visit(run);
  }
}

/// The pages of extent `extent` that the bytes [offset, offset + length) touch. The range must
/// touch the extent, and length must not be 0.
[[nodiscard]] constexpr PageMask pages_touched(uint64_t extent, uint64_t offset, uint64_t length) {
  const uint64_t extent_begin = extent << kExtentShift;
  const uint64_t begin = offset > extent_begin ? offset - extent_begin : 0;
  const uint64_t end_absolute = offset + length;
  const uint64_t end =
      end_absolute - extent_begin < kExtentSize ? end_absolute - extent_begin : kExtentSize;
  const auto first = static_cast<uint32_t>(begin >> kPageShift);
  const auto last = static_cast<uint32_t>((end - 1) >> kPageShift);
  return page_mask(first, last - first + 1);
}

/// The pages that extent `extent` of an object of `size_bytes` has at all (the last extent may be
/// short).
[[nodiscard]] constexpr PageMask pages_of_extent(uint64_t extent, uint64_t size_bytes) {
  return pages_touched(extent, extent << kExtentShift, size_bytes - (extent << kExtentShift));
}

}  // namespace blobcache::page
