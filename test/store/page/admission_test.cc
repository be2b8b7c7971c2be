#include "store/page/impl/admission.h"

#include <doctest/doctest.h>

#include <vector>

namespace blobcache::page {

TEST_CASE("reads enter while there are places, then in the order they came") {
  Admission admission(5);
  std::vector<int> started;
  admission.enter(3, [&] { started.push_back(1); });
  admission.enter(3, [&] { started.push_back(2); });
  admission.enter(1, [&] { started.push_back(3); });  // would fit, but waits its turn
  CHECK(started == std::vector<int>{1});
  admission.leave(3);
  CHECK(started == std::vector<int>{1, 2, 3});
}

TEST_CASE("a long line of reads that end at once does not grow the stack") {
  Admission admission(1);
  int ended = 0;
  admission.enter(1, [] {});
  for (int i = 0; i < 200000; ++i) {
    admission.enter(1, [&] {
      ++ended;
      admission.leave(1);
    });
  }
  CHECK(ended == 0);
  admission.leave(1);
  CHECK(ended == 200000);
}

}  // namespace blobcache::page
