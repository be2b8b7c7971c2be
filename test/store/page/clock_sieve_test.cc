#include <doctest/doctest.h>

#include "store/page/clock.h"
#include "store/page/sieve.h"

namespace blobcache::page {
namespace {

/// Slots 0 to 3, each brought by a read; 1 and 2 read again.
template <typename Policy>
struct Four {
  UseCounters uses{8};
  Policy policy{8, uses};

  Four() {
    for (uint32_t slot = 0; slot < 4; ++slot) add(slot);
    uses.use(1);
    uses.use(2);
  }
  void add(uint32_t slot) {
    policy.insert(slot, 100 + slot);
    uses.use(slot);
  }
};

}  // namespace

TEST_CASE("clock: what was used goes round once more") {
  Four<Clock> four;
  CHECK(four.policy.evict() == 0U);
  CHECK(four.policy.evict() == 3U);  // 1 and 2 moved behind it
  four.add(0);
  CHECK(four.policy.evict() == 1U);
  CHECK(four.policy.evict() == 2U);
  CHECK(four.policy.evict() == 0U);
  CHECK_FALSE(four.policy.evict().has_value());
}

TEST_CASE("sieve: what was used stays where it stands, and newcomers are looked at first") {
  Four<Sieve> four;
  CHECK(four.policy.evict() == 0U);
  CHECK(four.policy.evict() == 3U);  // the hand passed 1 and 2
  four.add(4);
  four.add(5);
  CHECK(four.policy.evict() == 1U);  // it was at the end, and begins with the oldest
  four.uses.use(2);
  CHECK(four.policy.evict() == 4U);
  CHECK(four.policy.evict() == 5U);
  CHECK(four.policy.evict() == 2U);
}

TEST_CASE("sieve: the slot under the hand may be erased") {
  Four<Sieve> four;
  CHECK(four.policy.evict() == 0U);
  four.policy.erase(1);  // where the hand stands
  CHECK(four.policy.evict() == 3U);
  CHECK(four.policy.evict() == 2U);
  CHECK(four.policy.size() == 0);
}

}  // namespace blobcache::page
