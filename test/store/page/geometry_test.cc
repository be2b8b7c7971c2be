#include "store/page/geometry.h"

#include <doctest/doctest.h>

namespace blobcache::page {

TEST_CASE("counts round up to whole pages and extents") {
  CHECK(page_count(0) == 0);
  CHECK(page_count(1) == 1);
  CHECK(page_count(4096) == 1);
  CHECK(page_count(4097) == 2);
  CHECK(extent_count(0) == 0);
  CHECK(extent_count(kExtentSize) == 1);
  CHECK(extent_count(kExtentSize + 1) == 2);
}

TEST_CASE("page masks cover exactly the pages named") {
  CHECK(page_mask(0, 0) == 0);
  CHECK(page_mask(0, 64) == ~PageMask{0});
  CHECK(page_mask(63, 1) == PageMask{1} << 63);
  CHECK(page_mask(4, 3) == 0b1110000);
}

TEST_CASE("a range touches the pages that any of its bytes lies in") {
  CHECK(pages_touched(0, 0, 1) == 1);
  CHECK(pages_touched(0, 4095, 2) == 0b11);
  CHECK(pages_touched(0, 0, kExtentSize) == ~PageMask{0});
  // A range across two extents, seen from each.
  const uint64_t offset = kExtentSize - 10;
  CHECK(pages_touched(0, offset, 20) == PageMask{1} << 63);
  CHECK(pages_touched(1, offset, 20) == 1);
  CHECK(pages_touched(1, 0, 3 * kExtentSize) == ~PageMask{0});
}

TEST_CASE("the last extent has only the pages the object has") {
  CHECK(pages_of_extent(0, 5000) == 0b11);
  CHECK(pages_of_extent(1, kExtentSize + 1) == 1);
}

}  // namespace blobcache::page
