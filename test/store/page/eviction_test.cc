#include "store/page/eviction.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "test/store/page/eviction_fixture.h"

namespace blobcache::page {
namespace {

/// What every policy promises, whatever it prefers.
void check_contract(std::string_view name) {
  CAPTURE(name);
  constexpr uint32_t kSlots = 64;
  UseCounters uses(kSlots);
  const auto policy = make_eviction_policy(name, kSlots, uses).value();
  CHECK_FALSE(policy->evict().has_value());
  policy->erase(3);  // not there

  std::mt19937 random(1);  // NOLINT: the same each time
  std::set<uint32_t> in;
  for (uint64_t step = 0; step < 20'000; ++step) {
    const uint32_t slot = random() % kSlots;
    switch (random() % 4) {
      case 0:
        if (in.insert(slot).second) policy->insert(slot, random() % 200);
        break;
      case 1:
        uses.use(slot);
        break;
      case 2:
        if (random() % 4 == 0) {
          policy->erase(slot);
          in.erase(slot);
        }
        break;
      default:
        const auto victim = policy->evict();
        REQUIRE(victim.has_value() == !in.empty());
        if (!victim) break;
        REQUIRE(in.erase(*victim) == 1);
        if (random() % 8 != 0) break;
        policy->restore(*victim, step);
        in.insert(*victim);
    }
    REQUIRE(policy->size() == in.size());
  }
  while (const auto victim = policy->evict()) CHECK(in.erase(*victim) == 1);
  CHECK(in.empty());
}

/// Slots that readers use as fast as the policy looks at them: it must not look for ever.
void check_all_in_use(std::string_view name) {
  CAPTURE(name);
  EvictionFixture cache(name, 100);
  for (int round = 0; round < 5; ++round) {
    for (uint64_t identity = 0; identity < 100; ++identity) cache.read(identity, 3);
  }
  CHECK(cache.policy().evict().has_value());
}

}  // namespace

TEST_CASE("an unknown policy is refused with the known names") {
  UseCounters uses(4);
  const auto policy = make_eviction_policy("random", 4, uses);
  REQUIRE(absl::IsInvalidArgument(policy.status()));
  for (const std::string_view name : eviction_policy_names()) {
    CHECK(std::string(policy.status().message()).find(name) != std::string::npos);
  }
}

TEST_CASE("every policy keeps account of its slots") {
  for (const std::string_view name : eviction_policy_names()) check_contract(name);
}

TEST_CASE("every policy finds a victim when all slots are in use") {
  for (const std::string_view name : eviction_policy_names()) check_all_in_use(name);
}

TEST_CASE("a one-pass scan of ten times the cache leaves the hot set in place") {
  for (const int touches : {1, 2, 16, 64}) {  // a scan in small pieces is one scan all the same
    CAPTURE(touches);
    EvictionFixture cache(kDefaultEvictionPolicy, 1000);
    for (int round = 0; round < 4; ++round) {
      for (uint64_t hot = 0; hot < 500; ++hot) cache.read(hot);
    }
    for (uint64_t cold = 0; cold < 10'000; ++cold) cache.read(1'000'000 + cold, touches);
    CHECK(cache.held(0, 500) == 500);
  }
}

TEST_CASE("a hot set that came back in any order and without uses is found again by its uses") {
  EvictionFixture cache(kDefaultEvictionPolicy, 1000);
  std::vector<uint64_t> identities(1000);
  std::iota(identities.begin(), identities.end(), 0);
  std::shuffle(identities.begin(), identities.end(),
               std::mt19937(7));  // NOLINT: the same each time
  for (const uint64_t identity : identities) cache.read(identity, 0);
  for (uint64_t round = 0; round < 3; ++round) {
    for (uint64_t hot = 0; hot < 300; ++hot) cache.read(hot);
    for (uint64_t cold = 0; cold < 1000; ++cold) cache.read(1'000'000 + 1000 * round + cold);
  }
  CHECK(cache.held(0, 300) >= 290);
}

TEST_CASE("of a loop larger than the cache the default keeps a part") {
  EvictionFixture cache(kDefaultEvictionPolicy, 1000);
  for (uint64_t before = 0; before < 20'000; ++before) cache.read(1'000'000 + before % 3'000);
  size_t hits = 0;
  for (uint64_t at = 0; at < 40'000; ++at) hits += cache.read(at % 2'000) && at >= 20'000 ? 1 : 0;
  CHECK(hits > 5'000);  // of 20,000; the optimum is 10,000, LRU's share is none
}

}  // namespace blobcache::page
