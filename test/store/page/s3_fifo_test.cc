#include "store/page/s3_fifo.h"

#include <doctest/doctest.h>

#include <set>

#include "test/store/page/eviction_fixture.h"

namespace blobcache::page {

TEST_CASE("s3-fifo: newcomers that are not used again go first, in order") {
  UseCounters uses(8);
  S3Fifo policy(8, uses);
  for (uint32_t slot = 0; slot < 4; ++slot) policy.insert(slot, 100 + slot);
  // What came while the cache filled is in the main queue, but for the last two.
  CHECK(policy.evict() == 2U);
  CHECK(policy.evict() == 3U);
  CHECK(policy.evict() == 0U);
  CHECK(policy.size() == 1);
}

TEST_CASE("s3-fifo: what was used stays while a scan in small pieces passes") {
  EvictionFixture cache("s3-fifo", 100);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t hot = 0; hot < 50; ++hot) cache.read(hot);
  }
  for (uint64_t cold = 0; cold < 1000; ++cold) cache.read(1000 + cold, 16);
  CHECK(cache.held(0, 50) == 50);
}

TEST_CASE("s3-fifo: what is used after the moment that it came in goes to the main queue") {
  EvictionFixture cache("s3-fifo", 100);
  for (uint64_t old = 0; old < 100; ++old) cache.read(old);
  cache.read(1000, 16);  // in pieces: that counts once
  cache.read(1001);
  for (uint64_t next = 0; next < 6; ++next) cache.read(2000 + next);
  cache.read(1001);  // and again, when others have come after it
  for (uint64_t next = 0; next < 30; ++next) cache.read(3000 + next);
  CHECK_FALSE(cache.holds(1000));
  CHECK(cache.holds(1001));
}

TEST_CASE("s3-fifo: an identity that comes back soon after it went enters the main queue") {
  EvictionFixture cache("s3-fifo", 100);
  for (uint64_t old = 0; old < 120; ++old) cache.read(old);
  REQUIRE_FALSE(cache.holds(95));
  cache.read(95);  // remembered
  for (uint64_t next = 0; next < 50; ++next) cache.read(1000 + next);
  CHECK(cache.holds(95));
}

TEST_CASE("s3-fifo: erased slots are never victims, restored ones are") {
  UseCounters uses(4);
  S3Fifo policy(4, uses);
  policy.insert(0, 1);
  policy.insert(1, 2);
  policy.insert(2, 3);
  policy.erase(1);
  policy.erase(1);  // twice is harmless
  const uint32_t victim = policy.evict().value();
  policy.restore(victim, 1);
  CHECK(policy.size() == 2);
  const std::set<uint32_t> rest{policy.evict().value(), policy.evict().value()};
  CHECK(rest == std::set<uint32_t>{0, 2});
  CHECK_FALSE(policy.evict().has_value());
}

}  // namespace blobcache::page
