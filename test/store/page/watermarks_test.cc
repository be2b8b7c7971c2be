// What the background keeps free: in memory after misses, on disk after what sources bring.

#include <doctest/doctest.h>

#include <vector>

#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "test/eventually.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {

namespace {

// A sixteenth is for page maps; of the rest the background keeps 1/32 to 2/32 free.
constexpr uint64_t kPages = kMemory / 16 * 15 / kPageSize;
constexpr uint64_t kLow = kPages / 32;

uint64_t free_pages(Object& object) {
  const auto residency = object.residency();
  REQUIRE(residency.ok());
  REQUIRE(residency->memory_pages <= kPages);
  return kPages - residency->memory_pages;
}

}  // namespace

TEST_CASE("watermarks: after a burst of misses the free memory is between the marks again") {
  constexpr uint64_t kBurst = uint64_t{96} << 20;
  Fixture fixture(kMemory);
  const std::vector<std::byte> content = random_bytes(kBurst, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  for (const uint64_t step : {Object::kMaxRead, kExtentSize, kPageSize * 3}) {
    CAPTURE(step);
    for (uint64_t at = 0; at + step <= content.size(); at += step) {
      REQUIRE(reads_as(*object, content, at, step));
    }
    // An extent is given up whole, so it may be one more.
    CHECK(test::eventually([&] { return free_pages(*object) >= kLow; }));
    CHECK(free_pages(*object) <= 2 * kLow + 2 * kPagesPerExtent);
  }
}

TEST_CASE("watermarks: memory that goes to frames which are there already is missed, too") {
  constexpr uint64_t kExtents = kPages / kPagesPerExtent;
  Fixture fixture(kMemory);
  const std::vector<std::byte> content = random_bytes(kExtents * kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  for (uint64_t extent = 0; extent < kExtents; ++extent) {
    REQUIRE(reads_as(*object, content, extent * kExtentSize, kPageSize));
  }
  for (uint64_t extent = 0; extent < kExtents; ++extent) {
    REQUIRE(reads_as(*object, content, extent * kExtentSize, kExtentSize));
  }
  CHECK(test::eventually([&] { return free_pages(*object) >= kLow; }));
}

TEST_CASE("watermarks: after fills the disk has its headroom, and no more") {
  constexpr uint64_t kBudget = uint64_t{64} << 20;
  constexpr uint64_t kHeadroom = kBudget / 64;
  Fixture fixture(kMemory, kBudget);
  for (uint8_t name = 1; name <= 20; ++name) {
    const Remote remote(uint64_t{4} << 20, name);
    REQUIRE(remote.read_all(fixture.store()) > 0);
    fixture.store().wait_cached();
    const uint64_t used = fixture.store().stats().disk_used_bytes;
    CAPTURE(used);
    CHECK(used + kHeadroom <= kBudget);
    // What makes room for a round of fills may free as much again.
    if (fixture.store().stats().disk_evicted_bytes > 0) CHECK(used + (8U << 20) > kBudget);
  }
  CHECK(fixture.store().stats().disk_evicted_bytes > 0);
  // So a small put waits for no eviction.
  const uint64_t evicted = fixture.store().stats().disk_evicted_bytes;
  fixture.put(random_bytes(kHeadroom / 2, 1), 200);
  CHECK(fixture.store().stats().disk_evicted_bytes == evicted);
}

}  // namespace blobcache::page
