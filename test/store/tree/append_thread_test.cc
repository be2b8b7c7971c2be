#include "store/tree/impl/append_thread.h"

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace blobcache::tree {
namespace {

TEST_CASE("append thread: each side runs on its own thread, and both are over afterwards") {
  AppendThreads threads(1);
  const std::unique_ptr<AppendThread> thread = threads.try_start();
  REQUIRE(thread != nullptr);
  std::vector<int> theirs;
  std::vector<int> ours;
  std::thread::id there;
  for (int i = 0; i < 1000; ++i) {
    thread->both(
        [&] {
          theirs.push_back(i);
          there = std::this_thread::get_id();
        },
        [&] { ours.push_back(i); });
    REQUIRE(theirs.size() == ours.size());
  }
  CHECK(theirs == ours);
  CHECK(there != std::this_thread::get_id());
}

TEST_CASE("append thread: there are no more than the bound allows, and one that ended makes room") {
  AppendThreads threads(2);
  std::unique_ptr<AppendThread> first = threads.try_start();
  const std::unique_ptr<AppendThread> second = threads.try_start();
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  CHECK(threads.try_start() == nullptr);
  CHECK(threads.running() == 2);
  first = nullptr;
  CHECK(threads.running() == 1);
  CHECK(threads.try_start() != nullptr);
  CHECK(threads.running() == 1);
  CHECK(AppendThreads::most_for_this_machine() >= 1);
}

TEST_CASE("append thread: an exception of the caller's waits for the other side") {
  AppendThreads threads(1);
  const std::unique_ptr<AppendThread> thread = threads.try_start();
  REQUIRE(thread != nullptr);
  for (int i = 0; i < 100; ++i) {
    bool over = false;
    CHECK_THROWS_AS(thread->both([&] { over = true; }, [] { throw std::runtime_error("ours"); }),
                    std::runtime_error);
    CHECK(over);
  }
}

}  // namespace
}  // namespace blobcache::tree
