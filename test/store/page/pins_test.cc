// Pins against evictions: threads that pin, and threads that evict the same frames.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/frame_pool.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

constexpr PageMask kAll = ~PageMask{0};
constexpr uint64_t kNobody = UINT64_MAX;

/// A few places, as extents are, each of which names the frame that it has. The bytes of a frame
/// say which use of it they are of; they are plain memory, so that ThreadSanitizer sees a reader
/// and a writer who meet.
class Places {
 public:
  static constexpr size_t kPlaces = 3;

  Places() {
    for (size_t place = 0; place < kPlaces; ++place) {
      absl::MutexLock lock(&mutex_);
      fill(place, 0);
    }
  }

  /// Pins what the place names, looks at the bytes, and lets go. False when there was no pin.
  bool read(size_t place, uint32_t shard) {
    const uint64_t word = names_.at(place).load(std::memory_order_acquire);
    const FrameRef ref = FrameRef::from_word(word);
    if (!pool_.pin(ref, shard)) return false;
    look(ref);
    // As a fetch does: a second pin, which outlives the first.
    pool_.pin_again({ref.index, shard});
    pool_.unpin({ref.index, shard});
    look(ref);
    pool_.unpin({ref.index, shard});
    return true;
  }

  /// Evicts the place's frame, if nobody has it pinned, and gives the place another.
  bool renew(size_t place, uint32_t shard) {
    absl::MutexLock lock(&mutex_);
    const FrameRef ref = FrameRef::from_word(names_.at(place).load());
    if (!pool_.begin_evict(ref)) return false;
    write(ref, kNobody);
    pool_.release(ref.index);
    fill(place, shard);
    return true;
  }

  [[nodiscard]] bool torn() const { return torn_.load(); }
  /// Nobody is in any more; no counter may be left over.
  [[nodiscard]] bool pinned() const {
    for (uint32_t frame = 0; frame < pool_.used_frames(); ++frame) {
      if (pool_.pinned(frame)) return true;
    }
    return false;
  }

 private:
  static constexpr std::array<uint64_t, 2> kMarks = {0, kExtentSize - sizeof(uint64_t)};

  void write(const FrameRef& ref, uint64_t stamp) {
    for (const uint64_t mark : kMarks) {
      std::memcpy(pool_.data(ref.index) + mark, &stamp, sizeof(stamp));
    }
  }
  void look(const FrameRef& ref) {
    for (const uint64_t mark : kMarks) {
      uint64_t stamp = 0;
      std::memcpy(&stamp, pool_.data(ref.index) + mark, sizeof(stamp));
      if (stamp != ref.to_word()) torn_.store(true);
    }
  }
  void fill(size_t place, uint32_t shard) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const FrameRef fresh = pool_.acquire(kAll).value();
    write(fresh, fresh.to_word());
    pool_.open(fresh, shard);
    names_.at(place).store(fresh.to_word(), std::memory_order_release);
    pool_.unpin({fresh.index, shard});
  }

  /// One frame more than places, so that a frame soon has its next use.
  FramePool pool_{(kPlaces + 1) * kExtentSize, /*processors=*/4};
  std::array<std::atomic<uint64_t>, kPlaces> names_{};
  std::atomic<bool> torn_{false};
  absl::Mutex mutex_;  ///< evictors
};

}  // namespace

TEST_CASE("no frame is evicted while it is pinned, whoever pins and evicts at once") {
  constexpr size_t kRounds = 30000;
  Places places;
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> evictions{0};
  std::vector<std::thread> threads;
  for (uint32_t shard = 0; shard < 4; ++shard) {
    threads.emplace_back([&, shard] {
      for (size_t i = 0; i < kRounds; ++i) reads += places.read(i % Places::kPlaces, shard) ? 1 : 0;
    });
  }
  for (uint32_t shard = 0; shard < 2; ++shard) {
    threads.emplace_back([&, shard] {
      for (size_t i = 0; i < kRounds; ++i) {
        evictions += places.renew(i % Places::kPlaces, shard) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(places.torn());
  CHECK_FALSE(places.pinned());
  CHECK(reads.load() > 0);
  CHECK(evictions.load() > 0);
}

TEST_CASE("who pins while others evict in vain is not sent to the disk") {
  Fixture fixture;
  const auto content = random_bytes(kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  const auto held = object->read_wait(0, kExtentSize);
  REQUIRE(held.ok());
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  std::atomic<bool> wrong{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 5000; ++i) {
        const uint64_t page = (i * 7 + static_cast<uint64_t>(t)) % kPagesPerExtent;
        if (!reads_as(*object, content, page * kPageSize, kPageSize)) wrong = true;
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 5000; ++i) (void)fixture.store().evict_memory(*object);
  });
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(wrong);
  CHECK(fixture.store().stats().disk_read_bytes == before);
}

}  // namespace blobcache::page
