#include "store/page/s3_tiny_lfu.h"

#include <doctest/doctest.h>

#include "test/store/page/eviction_fixture.h"

namespace blobcache::page {
namespace {

constexpr std::string_view kName = "s3-tinylfu";

/// The policy's window after a fixture's reads.
double window_share(EvictionFixture& cache) {
  return dynamic_cast<S3TinyLfu&>(cache.policy()).window_share();
}

}  // namespace

TEST_CASE("s3-tinylfu: a newcomer that is no more frequent than the next victim goes itself") {
  EvictionFixture cache(kName, 100);
  for (uint64_t old = 0; old < 100; ++old) cache.read(old);
  for (uint64_t newcomer = 1000; newcomer < 1300; ++newcomer) cache.read(newcomer);
  CHECK(cache.held(0, 97) == 97);
}

TEST_CASE(
    "s3-tinylfu: a newcomer that is asked for more often takes the place of one that is not") {
  EvictionFixture cache(kName, 100);
  for (uint64_t old = 0; old < 100; ++old) cache.read(old);
  for (uint64_t round = 0; round < 6; ++round) {
    // Too seldom to be remembered, so that only the sketch can tell.
    for (uint64_t other = 0; other < 90; ++other) cache.read(2000 + 100 * round + other);
    cache.read(1000);
  }
  for (uint64_t other = 0; other < 90; ++other) cache.read(3000 + other);
  CHECK(cache.holds(1000));
}

TEST_CASE("s3-tinylfu: what comes back soon after the window gave it up stays") {
  EvictionFixture cache(kName, 200);
  for (uint64_t old = 0; old < 220; ++old) cache.read(old);
  REQUIRE_FALSE(cache.holds(210));
  cache.read(210);
  for (uint64_t next = 0; next < 190; ++next) cache.read(1000 + next);
  CHECK(cache.holds(210));
}

TEST_CASE("s3-tinylfu: the window grows when what it just gave up is asked for again") {
  EvictionFixture cache(kName, 1000);
  for (uint64_t old = 0; old < 1000; ++old) cache.read(old);
  CHECK(window_share(cache) == doctest::Approx(0.02));
  // Each is read again after 40 others: more than the window holds at first.
  for (uint64_t at = 0; at < 20'000; ++at) {
    cache.read(10'000 + at);
    if (at >= 40) cache.read(10'000 + at - 40);
  }
  CHECK(window_share(cache) > 0.04);
}

TEST_CASE("s3-tinylfu: w-tinylfu's window is what it is") {
  EvictionFixture cache("w-tinylfu", 1000);
  for (uint64_t at = 0; at < 5'000; ++at) {
    cache.read(at);
    if (at >= 15) cache.read(at - 15);
  }
  CHECK(window_share(cache) == doctest::Approx(0.01));
}

TEST_CASE("s3-tinylfu: a restored victim is not the next one") {
  UseCounters uses(8);
  S3TinyLfu policy(8, uses);
  for (uint32_t slot = 0; slot < 8; ++slot) policy.insert(slot, 100 + slot);
  const uint32_t pinned = policy.evict().value();
  policy.restore(pinned, 100 + pinned);
  CHECK(policy.size() == 8);
  for (int i = 0; i < 6; ++i) CHECK(policy.evict().value() != pinned);
}

}  // namespace blobcache::page
