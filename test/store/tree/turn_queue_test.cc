#include "store/tree/impl/turn_queue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace blobcache::tree {
namespace {

TEST_CASE("turn queue: one after the other, in their order, without a thread that waits") {
  const auto queue = std::make_shared<TurnQueue>();
  std::vector<int> begun;
  for (int i = 0; i < 3; ++i) queue->run([&begun, i] { begun.push_back(i); });
  CHECK(begun == std::vector<int>{0});
  queue->next();
  CHECK(begun == std::vector<int>{0, 1});
  queue->next();
  queue->next();
  CHECK(begun == std::vector<int>{0, 1, 2});
  // It is nobody's turn: at once.
  queue->run([&] {
    begun.push_back(3);
    queue->next();
  });
  CHECK(begun.size() == 4);
}

TEST_CASE("turn queue: many turns that are over at once do not nest") {
  const auto queue = std::make_shared<TurnQueue>();
  int depth = 0;
  int deepest = 0;
  int done = 0;
  queue->run([] {});
  for (int i = 0; i < 100'000; ++i) {
    queue->run([&] {
      deepest = std::max(deepest, ++depth);
      ++done;
      queue->next();
      --depth;
    });
  }
  queue->next();
  CHECK(done == 100'000);
  CHECK(deepest == 1);
}

TEST_CASE("turn queue: it may lose its last holder in the middle of a turn") {
  auto queue = std::make_shared<TurnQueue>();
  bool second = false;
  queue->run([&] {
    TurnQueue* const held = queue.get();
    held->run([&second, held] {
      second = true;
      held->next();
    });
    held->next();
    queue = nullptr;
  });
  CHECK(second);
}

TEST_CASE("turn queue: threads that come and go have a turn each, and no two at once") {
  const auto queue = std::make_shared<TurnQueue>();
  constexpr int kThreads = 4;
  constexpr int kTurns = 2000;
  std::atomic<int> inside{0};
  std::atomic<int> met{0};
  std::atomic<int> over{0};
  int count = 0;  // guarded by the turns
  const auto end_turn = [&] {
    ++count;
    --inside;
    queue->next();
    ++over;  // after which nothing here is touched
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTurns; ++i) {
        queue->run([&, later = (i + t) % 64 == 0] {
          if (inside.fetch_add(1) != 0) ++met;
          // Some end on a thread of their own, as what waits for a disk does.
          if (later) {
            std::thread(end_turn).detach();
          } else {
            end_turn();
          }
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (over.load() < kThreads * kTurns) std::this_thread::yield();
  CHECK(met == 0);
  CHECK(count == kThreads * kTurns);
}

}  // namespace
}  // namespace blobcache::tree
