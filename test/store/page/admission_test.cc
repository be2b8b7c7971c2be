#include "store/page/impl/admission.h"

#include <doctest/doctest.h>

#include <vector>

namespace blobcache::page {

using Lane = Admission::Lane;

TEST_CASE("reads enter while there are places, then in the order they came") {
  Admission admission(5);
  std::vector<int> started;
  const auto enter = [&](uint64_t places, int number) {
    admission.expect();
    admission.enter(Lane::kDisk, places, [&started, number] { started.push_back(number); });
  };
  enter(3, 1);
  enter(3, 2);
  enter(1, 3);  // would fit, but waits its turn
  CHECK(started == std::vector<int>{1});
  admission.leave(Lane::kDisk, 3);
  CHECK(started == std::vector<int>{1, 2, 3});
}

TEST_CASE("reads that wait for sources leave places to the others") {
  Admission admission(8);
  std::vector<int> started;
  const auto enter = [&](Lane lane, uint64_t places, int number) {
    admission.expect();
    admission.enter(lane, places, [&started, number] { started.push_back(number); });
  };
  for (int i = 0; i < 10; ++i) enter(Lane::kSource, 1, i);
  CHECK(started.size() == 5);
  enter(Lane::kDisk, 3, 100);
  CHECK(started.back() == 100);
  enter(Lane::kDisk, 1, 101);  // no place is free, and who came first has none for his lane
  CHECK(started.back() == 100);
  admission.leave(Lane::kDisk, 3);
  CHECK(started.back() == 101);
  admission.leave(Lane::kSource, 1);
  CHECK(started.back() == 5);
}

TEST_CASE("all that somebody waits for overtakes what nobody has asked for") {
  Admission admission(16);
  std::vector<int> started;
  const auto enter = [&](Lane lane, uint64_t places, int number) {
    admission.expect();
    admission.enter(lane, places, [&started, number] { started.push_back(number); });
  };
  // An eighth each, whatever is free.
  for (int i = 0; i < 4; ++i) enter(Lane::kDiskAhead, 1, i);
  for (int i = 10; i < 14; ++i) enter(Lane::kSourceAhead, 1, i);
  CHECK(started == std::vector<int>{0, 1, 10, 11});
  enter(Lane::kDisk, 11, 100);
  enter(Lane::kDisk, 2, 101);  // there is a place for one more, and it waits for two
  CHECK(started.back() == 100);
  admission.leave(Lane::kDiskAhead, 1);
  CHECK(started.back() == 101);
  admission.leave(Lane::kSourceAhead, 1);
  CHECK(started.back() == 2);
  // Sources have three quarters, with what is brought ahead of them.
  Admission other(16);
  started.clear();
  for (int i = 0; i < 16; ++i) {
    other.expect();
    other.enter(Lane::kSource, 1, [&started] { started.push_back(0); });
  }
  CHECK(started.size() == 10);
}

TEST_CASE("a read that is larger than its lane's share enters when it has the lane to itself") {
  Admission admission(5);
  int started = 0;
  for (int i = 0; i < 2; ++i) {
    admission.expect();
    admission.enter(Lane::kSource, 5, [&] { ++started; });
  }
  CHECK(started == 1);
  admission.leave(Lane::kSource, 5);
  CHECK(started == 2);
  CHECK_FALSE(admission.idle());
  admission.leave(Lane::kSource, 5);
  CHECK(admission.idle());
}

TEST_CASE("a long line of reads that end at once does not grow the stack") {
  Admission admission(1);
  int ended = 0;
  admission.expect();
  admission.enter(Lane::kDisk, 1, [] {});
  for (int i = 0; i < 200000; ++i) {
    admission.expect();
    admission.enter(Lane::kDisk, 1, [&] {
      ++ended;
      admission.leave(Lane::kDisk, 1);
    });
  }
  CHECK(ended == 0);
  admission.leave(Lane::kDisk, 1);
  CHECK(ended == 200000);
}

}  // namespace blobcache::page
