#include "store/page/frequency_sketch.h"

#include <doctest/doctest.h>

#include "store/page/ghost_queue.h"

namespace blobcache::page {
namespace {

/// As far apart as hashes are.
uint64_t identity(uint64_t number) { return (number + 1) * 0x9e3779b97f4a7c15; }

}  // namespace

TEST_CASE("a sketch never counts too little, and seldom too much") {
  FrequencySketch sketch(1024);
  for (uint64_t number = 0; number < 1000; ++number) {
    sketch.add(identity(number), static_cast<uint8_t>(number % 8));
  }
  int exact = 0;
  for (uint64_t number = 0; number < 1000; ++number) {
    const uint8_t estimate = sketch.estimate(identity(number));
    CHECK(estimate >= number % 8);
    exact += estimate == number % 8 ? 1 : 0;
  }
  CHECK(exact > 950);
}

TEST_CASE("a sketch's counters end at their largest value and spoil no neighbour") {
  FrequencySketch sketch(16);
  for (int i = 0; i < 10; ++i) sketch.add(identity(1), 3);
  CHECK(sketch.estimate(identity(1)) == FrequencySketch::kMax);
  CHECK(sketch.estimate(identity(2)) == 0);
}

TEST_CASE("what is taken over from another sketch is neither lost nor added") {
  FrequencySketch sketch(64);
  sketch.take_over(identity(1), 5);
  sketch.take_over(identity(1), 3);
  CHECK(sketch.estimate(identity(1)) == 5);
  sketch.add(identity(1), 2);
  CHECK(sketch.estimate(identity(1)) == 7);
}

TEST_CASE("a sketch forgets half after each sample") {
  FrequencySketch sketch(1024);
  sketch.set_sample(20);
  for (int i = 0; i < 12; ++i) sketch.add(identity(1), 1);
  CHECK(sketch.estimate(identity(1)) == 12);
  for (int i = 0; i < 8; ++i) sketch.add(identity(2), 1);
  CHECK(sketch.estimate(identity(1)) == 6);
  CHECK(sketch.estimate(identity(2)) == 4);
}

TEST_CASE("ghosts: the oldest are forgotten, and a taken one is told how long ago it came") {
  GhostQueue ghosts;
  for (uint64_t number = 0; number < 5; ++number) ghosts.remember(number, 3);
  CHECK_FALSE(ghosts.take(1).has_value());
  CHECK(ghosts.take(2) == 2U);
  CHECK(ghosts.take(4) == 0U);
  CHECK_FALSE(ghosts.take(4).has_value());
}

TEST_CASE("ghosts: one that is remembered again is not forgotten with its older place") {
  GhostQueue ghosts;
  ghosts.remember(1, 3);
  ghosts.remember(2, 3);
  ghosts.remember(1, 3);
  ghosts.remember(3, 3);  // the first place of 1 goes
  CHECK(ghosts.take(1) == 1U);
}

}  // namespace blobcache::page
