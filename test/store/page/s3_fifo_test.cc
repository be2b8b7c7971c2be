#include "store/page/s3_fifo.h"

#include <doctest/doctest.h>

#include <set>

namespace blobcache::page {

TEST_CASE("an unknown policy is refused with the known names") {
  UseCounters uses(4);
  const auto policy = make_eviction_policy("clock", 4, uses);
  REQUIRE(absl::IsInvalidArgument(policy.status()));
  CHECK(std::string(policy.status().message()).find("s3-fifo") != std::string::npos);
}

TEST_CASE("newcomers that are not used again go first, in order") {
  UseCounters uses(8);
  S3Fifo policy(8, uses);
  for (uint32_t slot = 0; slot < 4; ++slot) policy.insert(slot, 100 + slot);
  CHECK(policy.evict() == 0U);
  CHECK(policy.evict() == 1U);
  CHECK(policy.size() == 2);
}

TEST_CASE("what was used twice stays while a scan passes") {
  UseCounters uses(100);
  S3Fifo policy(100, uses);
  for (uint32_t slot = 0; slot < 10; ++slot) {
    policy.insert(slot, slot);
    for (int i = 0; i < 3; ++i) uses.use(slot);
  }
  std::set<uint32_t> evicted;
  for (uint32_t slot = 10; slot < 100; ++slot) {
    policy.insert(slot, 1000 + slot);
    uses.use(slot);  // a scan reads each once
    if (slot >= 20) evicted.insert(policy.evict().value());
  }
  for (uint32_t slot = 0; slot < 10; ++slot) CHECK_FALSE(evicted.contains(slot));
}

TEST_CASE("an identity that comes back soon after it went enters the main queue") {
  UseCounters uses(16);
  S3Fifo policy(16, uses);
  policy.insert(0, 7);
  REQUIRE(policy.evict() == 0U);
  policy.insert(0, 7);  // remembered
  for (uint32_t slot = 1; slot < 8; ++slot) policy.insert(slot, 100 + slot);
  // The small queue is over its share, so its oldest go before the one that came back.
  for (uint32_t slot = 1; slot < 8; ++slot) CHECK(policy.evict() == slot);
  CHECK(policy.evict() == 0U);
  CHECK_FALSE(policy.evict().has_value());
}

TEST_CASE("erased slots are never victims, restored ones are") {
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
  std::set<uint32_t> rest{policy.evict().value(), policy.evict().value()};
  CHECK(rest == std::set<uint32_t>{0, 2});
  CHECK_FALSE(policy.evict().has_value());
}

}  // namespace blobcache::page
