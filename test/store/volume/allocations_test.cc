// What must not allocate memory: a program of its own, which counts.

#include <doctest/doctest.h>

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "test/counted_new.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kPages = 256;

TEST_CASE("writes of whole pages to a part that was written to lately allocate nothing") {
  VolumeFixture fixture(uint64_t{16} << 20);
  const Bytes old = random_bytes(kPages * kPage, 1);
  const Bytes page = random_bytes(kPage, 2);
  fixture.write(0, old);
  const uint64_t before = test::allocations_here();
  uint64_t answered = 0;
  for (uint64_t i = 0; i < kPages; ++i) {
    fixture.volume().write(i * 37 % kPages * kPage, page, /*fua=*/false,
                           [&answered](const absl::Status& status) { answered += status.ok(); });
  }
  const uint64_t allocated = test::allocations_here() - before;
  // Answered here, that is: without a wait, and without a thread of others.
  CHECK(answered == kPages);
  CHECK(allocated == 0);
  CHECK(fixture.read(5 * kPage, kPage) == page);
}

TEST_CASE("what allocates is counted") {
  const uint64_t before = test::allocations_here();
  const Bytes bytes = random_bytes(kPage, 3);
  CHECK(test::allocations_here() > before);
}

}  // namespace
}  // namespace blobcache::volume
