// Reads of the disk that a thread makes by its own ring.

#include "store/page/thread_ring.h"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "store/page/page_store.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

constexpr size_t kSize = 40 * kExtentSize + 1234;

/// Sleeps until something has come. False when nothing does.
bool sleep_on(ThreadRing& ring) {
  ring.submit();
  pollfd fd{ring.wake_fd(), POLLIN, 0};
  if (fd.fd < 0) return false;
  const bool came = ::poll(&fd, 1, 30'000) == 1;
  if (came) ring.woken();
  ring.reap();
  return came;
}

}  // namespace

TEST_CASE("a thread's own ring calls back on that thread, for many reads at once") {
  Fixture fixture(uint64_t{32} << 20);
  const std::vector<std::byte> content = random_bytes(kSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  ThreadRing ring;
  CHECK(ring.wake_fd() == -1);
  const ThreadRing::Scope scope(ring);
  // Twice what it has places for.
  constexpr int kReads = 256;
  std::atomic<int> done = 0;
  std::atomic<int> here = 0;
  const std::thread::id self = std::this_thread::get_id();
  std::vector<PendingRead> reads;
  for (int i = 0; i < kReads; ++i) {
    const uint64_t at = uint64_t{7919} * static_cast<uint64_t>(i) % (kSize / kPageSize) * kPageSize;
    reads.push_back(object->read(at, kPageSize, [&, at](absl::StatusOr<PinnedRange> range) {
      CHECK(range.ok());
      if (range.ok()) CHECK(same(*range, absl::MakeConstSpan(content).subspan(at, kPageSize)));
      if (std::this_thread::get_id() == self) ++here;
      ++done;
    }));
  }
  while (done < kReads && sleep_on(ring)) {
  }
  // The rest went by the store's.
  for (int tries = 0; tries < 3000 && done < kReads; ++tries) {
    absl::SleepFor(absl::Milliseconds(10));
    ring.reap();
  }
  CHECK(done == kReads);
  CHECK(here > 0);
  CHECK(ring.wake_fd() == -1);
}

TEST_CASE("who waits for pages that another thread's ring brings gets them, or their error") {
  Fixture fixture(uint64_t{32} << 20);
  const std::vector<std::byte> content = random_bytes(kSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  flip_byte(fixture.file_of(spec), 11 * kPageSize);
  const ObjectRef object = fixture.store().attach(spec);
  const auto read_at_random = [&](uint32_t seed, bool by_ring) {
    std::mt19937 random(seed);
    ThreadRing ring;
    for (int round = 0; round < 300; ++round) {
      std::atomic<int> left = 8;
      const auto ask = [&] {
        const uint64_t at = random() % (kSize - 3 * kPageSize);
        const auto done = [&, at](absl::StatusOr<PinnedRange> range) {
          const bool is_bad = at / kPageSize <= 11 && (at + 9000 - 1) / kPageSize >= 11;
          CHECK(range.ok() == !is_bad);
          if (range.ok()) CHECK(same(*range, absl::MakeConstSpan(content).subspan(at, 9000)));
          --left;
        };
        if (by_ring) {
          (void)object->read(at, 9000, done);
        } else {
          done(object->read_wait(at, 9000));
        }
      };
      if (by_ring) {
        const ThreadRing::Scope scope(ring);
        for (int i = 0; i < 8; ++i) ask();
      } else {
        for (int i = 0; i < 8; ++i) ask();
      }
      while (left > 0) {
        if (!sleep_on(ring)) absl::SleepFor(absl::Microseconds(50));
      }
      if (round % 10 == 0) fixture.store().evict_memory(*object);
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) threads.emplace_back(read_at_random, i, i != 0);
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("a file that ends too early is an error by a thread's own ring, too") {
  Fixture fixture;
  const std::vector<std::byte> content = random_bytes(kSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  std::filesystem::resize_file(fixture.file_of(spec), kExtentSize + 100);
  const ObjectRef object = fixture.store().attach(spec);
  std::atomic<int> done = 0;
  {
    ThreadRing ring;
    const ThreadRing::Scope scope(ring);
    (void)object->read(0, kPageSize, [&](absl::StatusOr<PinnedRange> range) {
      CHECK(range.ok());
      ++done;
    });
    (void)object->read(2 * kExtentSize, kPageSize, [&](absl::StatusOr<PinnedRange> range) {
      CHECK(absl::IsDataLoss(range.status()));
      ++done;
    });
  }
  // What the ring's end did not wait for is with the store's.
  for (int tries = 0; tries < 3000 && done < 2; ++tries) absl::SleepFor(absl::Milliseconds(10));
  CHECK(done == 2);
}

}  // namespace blobcache::page
