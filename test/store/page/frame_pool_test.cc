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
  pool.release(first.index);
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
  pool.release(frame.index);
  CHECK(pool.resident_pages() == 0);
}

TEST_CASE("single pages fill 32 times as many frames as whole extents") {
  FramePool pool(2 * kExtentSize);
  std::vector<FrameRef> frames;
  while (const auto frame = pool.acquire(1)) frames.push_back(*frame);
  CHECK(frames.size() == 64);
  CHECK(pool.resident_pages() == 64);
}

TEST_CASE("frames of whole extents come in slabs while the budget has room, all of it charged") {
  FramePool pool(36 * kExtentSize);
  const FrameRef sparse = pool.acquire(1).value();
  // The first ones come one by one: what little is asked for takes little.
  std::vector<FrameRef> frames;
  while (frames.size() < 7) frames.push_back(pool.acquire(kAll).value());
  CHECK(pool.resident_pages() == 7 * 64 + 1);
  frames.push_back(pool.acquire(kAll).value());
  CHECK(pool.resident_pages() == 15 * 64 + 1);
  CHECK(pool.available_pages() == 36 * 64 - 8 * 64 - 1);
  while (frames.size() < 15) frames.push_back(pool.acquire(kAll).value());
  CHECK(pool.resident_pages() == 15 * 64 + 1);
  // Not where a slab begins: what is left out before it is there for others.
  const FrameRef between = pool.acquire(1).value();
  // More slabs, and then frames of their own.
  while (const auto frame = pool.acquire(kAll)) frames.push_back(*frame);
  CHECK(frames.size() == 35);
  CHECK(pool.resident_pages() == 35 * 64 + 2);
  for (const FrameRef frame : frames) std::memset(pool.data(frame.index), 1, kExtentSize);
  for (const FrameRef frame : frames) pool.release(frame.index);
  pool.release(sparse.index);
  pool.release(between.index);
  CHECK(pool.available_pages() == 36 * 64);
  // One page of each of many extents: the slabs' pages go, frame by frame.
  frames.clear();
  while (const auto frame = pool.acquire(1)) frames.push_back(*frame);
  CHECK(frames.size() == pool.frame_count());
  CHECK(pool.resident_pages() <= pool.budget_pages());
}

TEST_CASE("the budget is never passed") {
  FramePool pool(2 * kExtentSize);
  const FrameRef a = pool.acquire(kAll).value();
  const FrameRef b = pool.acquire(page_mask(0, 32)).value();
  CHECK_FALSE(pool.acquire(kAll).has_value());
  CHECK(pool.charge(b.index, page_mask(32, 32)));
  CHECK_FALSE(pool.acquire(1).has_value());
  pool.release(a.index);
  // The warm frame's pages are given up for a sparse one.
  CHECK(pool.acquire(1).has_value());
  CHECK(pool.resident_pages() == 65);
}

TEST_CASE("a frame just acquired can be neither pinned nor evicted before it is opened") {
  FramePool pool(4 * kExtentSize);
  const FrameRef frame = pool.acquire(kAll).value();
  CHECK_FALSE(pool.pin(frame, 0));
  CHECK_FALSE(pool.begin_evict(frame));
  pool.open(frame, 0);
  CHECK(pool.pinned(frame.index));
  CHECK(pool.pin(frame, 0));
}

TEST_CASE("a pin in any shard holds off eviction, an old reference never pins") {
  FramePool pool(4 * kExtentSize, /*processors=*/4);
  const FrameRef frame = pool.acquire(kAll).value();
  pool.open(frame, 3);
  CHECK(pool.pinned(frame.index));
  CHECK_FALSE(pool.begin_evict(frame));
  for (uint32_t shard = 0; shard < 4; ++shard) {
    REQUIRE(pool.pin(frame, shard));
    pool.unpin({frame.index, shard == 0 ? 3 : shard - 1});  // all but the newest are let go
    CHECK_FALSE(pool.begin_evict(frame));
  }
  pool.pin_again({frame.index, 3});
  pool.unpin({frame.index, 3});
  CHECK_FALSE(pool.begin_evict(frame));
  pool.unpin({frame.index, 3});
  REQUIRE(pool.begin_evict(frame));
  CHECK_FALSE(pool.pin(frame, 0));
  CHECK_FALSE(pool.begin_evict(frame));
  pool.release(frame.index);
  CHECK_FALSE(pool.pin(frame, 0));
  CHECK_FALSE(pool.begin_evict(frame));
  CHECK_FALSE(pool.pinned(frame.index));
}

TEST_CASE("a thread's shard is one that there is, whatever the number of processors") {
  for (const uint32_t processors : {0U, 1U, 2U, 3U, 6U, 1000U}) {
    FramePool pool(kExtentSize, processors);
    const FrameRef frame = pool.acquire(1).value();
    pool.open(frame, pool.this_shard());
    CHECK(pool.this_shard() < FramePool::kMaxShards);
    CHECK(pool.pinned(frame.index));
  }
}

TEST_CASE("a frame that held one page is kept for that page's place, until the budget wants it") {
  FramePool pool(kExtentSize);
  const PageMask third = 4;
  const FrameRef frame = pool.acquire(third).value();
  pool.release(frame.index);
  CHECK(pool.resident_pages() == 1);
  CHECK(pool.available_pages() == 64);
  // Another place does not get it, the same place does, and nothing more is charged.
  const FrameRef other = pool.acquire(PageMask{8}).value();
  CHECK(other.index != frame.index);
  const FrameRef again = pool.acquire(third).value();
  CHECK(again.index == frame.index);
  CHECK(pool.resident_pages() == 2);
  pool.release(again.index);
  pool.release(other.index);
  CHECK(pool.resident_pages() == 2);
  const FrameRef whole = pool.acquire(kAll).value();
  CHECK(pool.resident_pages() == 64);
  pool.release(whole.index);
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
        const uint32_t shard = pool.this_shard();
        pool.open(*frame, shard);
        if (!pool.pin(*frame, shard)) shared_twice = true;
        if (word->load(std::memory_order_relaxed) != t) shared_twice = true;
        pool.unpin({frame->index, shard});
        pool.unpin({frame->index, shard});
        if (!pool.begin_evict(*frame)) shared_twice = true;
        pool.release(frame->index);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(shared_twice);
  CHECK(pool.available_pages() == 16 * 64);
}

}  // namespace blobcache::page
