#include "base/gathering.h"

#include <doctest/doctest.h>

namespace blobcache::base {

TEST_CASE("gathering: one alone never waits") {
  Gathering gathering;
  CHECK(gathering.expected() == 1);
  for (int i = 0; i < 3; ++i) gathering.done(1, absl::Milliseconds(2));
  CHECK(gathering.expected() == 1);
}

TEST_CASE("gathering: a straggler's turn does not scatter the group, two in a row do") {
  Gathering gathering;
  gathering.done(16, absl::Milliseconds(2));
  CHECK(gathering.expected() == 16);
  CHECK(gathering.patience() == absl::Milliseconds(4));
  gathering.done(1, absl::Milliseconds(1));
  CHECK(gathering.expected() == 16);
  CHECK(gathering.patience() == absl::Milliseconds(2));
  gathering.done(1, absl::Milliseconds(1));
  CHECK(gathering.expected() == 1);
}

TEST_CASE("gathering: a slow disk does not make patience without end") {
  Gathering gathering;
  gathering.done(4, absl::Seconds(3));
  CHECK(gathering.patience() == Gathering::kMaxPatience);
}

}  // namespace blobcache::base
