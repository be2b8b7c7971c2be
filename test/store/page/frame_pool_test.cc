#include "store/page/frame_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

namespace blobcache::page {
namespace {

constexpr PageMask kAll = ~PageMask{0};

}  // namespace

TEST_CASE("a full frame stays warm and is handed out again") {
  FramePool pool(4 * kExtentSize);
  const FrameRef first = pool.acquire(kAll).value();
  std::memset(pool.data(first.index), 1, kExtentSize);
  pool.release_pinned(first);
  CHECK(pool.resident_pages() == 64);
  CHECK(pool.available_pages() == 4 * 64);
  const FrameRef second = pool.acquire(kAll).value();
  CHECK(second.index == first.index);
  CHECK(second.generation != first.generation);
  CHECK(pool.resident_pages() == 64);
}

TEST_CASE("a sparse frame costs its pages and gives them back") {
  FramePool pool(4 * kExtentSize);
  const FrameRef frame = pool.acquire(page_mask(3, 1)).value();
  CHECK(pool.resident_pages() == 1);
  CHECK(pool.charge(frame.index, page_mask(3, 2)));
  CHECK(pool.resident_pages() == 2);
  pool.release_pinned(frame);
  CHECK(pool.resident_pages() == 0);
}

TEST_CASE("single pages fill 32 times as many frames as whole extents") {
  FramePool pool(2 * kExtentSize);
  std::vector<FrameRef> frames;
  while (const auto frame = pool.acquire(1)) frames.push_back(*frame);
  CHECK(frames.size() == 64);
  CHECK(pool.resident_pages() == 64);
}

TEST_CASE("the budget is never passed") {
  FramePool pool(2 * kExtentSize);
  const FrameRef a = pool.acquire(kAll).value();
  const FrameRef b = pool.acquire(page_mask(0, 32)).value();
  CHECK_FALSE(pool.acquire(kAll).has_value());
  CHECK(pool.charge(b.index, page_mask(32, 32)));
  CHECK_FALSE(pool.acquire(1).has_value());
  pool.release_pinned(a);
  // The warm frame's pages are given up for a sparse one.
  CHECK(pool.acquire(1).has_value());
  CHECK(pool.resident_pages() == 65);
}

TEST_CASE("a pin holds off eviction, an old reference never pins") {
  FramePool pool(4 * kExtentSize);
  const FrameRef frame = pool.acquire(kAll).value();
  CHECK(pool.pinned(frame.index));
  CHECK_FALSE(pool.begin_evict(frame));
  pool.unpin(frame.index);
  CHECK(pool.pin(frame));
  CHECK_FALSE(pool.begin_evict(frame));
  pool.unpin(frame.index);
  REQUIRE(pool.begin_evict(frame));
  CHECK_FALSE(pool.pin(frame));
  pool.release(frame.index);
  CHECK_FALSE(pool.pin(frame));
  CHECK_FALSE(pool.begin_evict(frame));
}

TEST_CASE("a frame that held one page is kept for that page's place, until the budget wants it") {
  FramePool pool(kExtentSize);
  const PageMask third = 4;
  const FrameRef frame = pool.acquire(third).value();
  pool.release_pinned(frame);
  CHECK(pool.resident_pages() == 1);
  CHECK(pool.available_pages() == 64);
  // Another place does not get it, the same place does, and nothing more is charged.
  const FrameRef other = pool.acquire(PageMask{8}).value();
  CHECK(other.index != frame.index);
  const FrameRef again = pool.acquire(third).value();
  CHECK(again.index == frame.index);
  CHECK(pool.resident_pages() == 2);
  pool.release_pinned(again);
  pool.release_pinned(other);
  CHECK(pool.resident_pages() == 2);
  const FrameRef whole = pool.acquire(kAll).value();
  CHECK(pool.resident_pages() == 64);
  pool.release_pinned(whole);
}

TEST_CASE("threads that acquire, pin and release keep the accounts") {
  FramePool pool(16 * kExtentSize);
  std::atomic<bool> shared_twice{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20000; ++i) {
        const auto frame = pool.acquire(i % 3 == 0 ? PageMask{1} : kAll);
        if (!frame) continue;
        auto* word = reinterpret_cast<std::atomic<unsigned>*>(pool.data(frame->index));
        word->store(t, std::memory_order_relaxed);
        if (!pool.pin(*frame)) shared_twice = true;
        if (word->load(std::memory_order_relaxed) != t) shared_twice = true;
        pool.unpin(frame->index);
        pool.release_pinned(*frame);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(shared_twice);
  CHECK(pool.available_pages() == 16 * 64);
}

}  // namespace blobcache::page
