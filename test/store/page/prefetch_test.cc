// What the store brings before it is asked for: from the disk, and from a source.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "store/page/allow_blocking.h"
#include "store/page/no_readahead.h"
#include "store/page/page_store.h"
#include "store/page/thread_ring.h"
#include "test/eventually.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

struct Ahead : Fixture {
  explicit Ahead(bool enabled = true, uint64_t memory_bytes = kMemory) : Fixture(memory_bytes) {
    options().prefetch.enabled = enabled;
    reopen();
  }
  /// Nothing is on its way any more.
  void settle() {
    REQUIRE(test::eventually([this] { return store().stats().reads_under_way == 0; }));
  }
  [[nodiscard]] Stats stats() { return store().stats(); }
};

/// Reads in sequence, each after what was brought for the one before has come.
uint64_t read_slowly(Ahead& ahead, Object& object, const std::vector<std::byte>& content,
                     uint64_t begin, uint64_t end, uint64_t length) {
  uint64_t missed = 0;
  for (uint64_t at = begin; at < end; at += length) {
    PinnedRange range;
    const uint64_t piece = std::min<uint64_t>(length, content.size() - at);
    if (!object.try_read(at, piece, range)) ++missed;
    range.release();
    REQUIRE(reads_as(object, content, at, piece));
    ahead.settle();
  }
  return missed;
}

/// Answers when it is told to.
class GatedSource final : public Source {
 public:
  explicit GatedSource(std::vector<std::byte> content) : content_(std::move(content)) {}

  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    const absl::MutexLock lock(&mutex_);
    waiting_.push_back({offset, into, std::move(done)});
    return nullptr;
  }
  std::unique_ptr<Fetch> fetch_ahead(uint64_t offset, absl::Span<std::byte> into,
                                     FetchDone done) override {
    class Handle final : public Fetch {
     public:
      explicit Handle(std::atomic<int>& hastened) : hastened_(hastened) {}
      void cancel() override {}
      void hasten() override { ++hastened_; }

     private:
      std::atomic<int>& hastened_;
    };
    ++ahead;
    (void)fetch(offset, into, std::move(done));
    return std::make_unique<Handle>(hastened);
  }
  /// Answers the first `count` of those that wait, or fails them.
  void answer(size_t count, const absl::Status& status = absl::OkStatus()) {
    std::vector<Waiting> now;
    {
      const absl::MutexLock lock(&mutex_);
      while (count-- > 0 && !waiting_.empty()) {
        now.push_back(std::move(waiting_.front()));
        waiting_.erase(waiting_.begin());
      }
    }
    for (Waiting& each : now) {
      if (status.ok()) {
        std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(each.offset), each.into.size(),
                    each.into.begin());
      }
      each.done(status);
    }
  }
  [[nodiscard]] std::vector<uint64_t> asked() {
    const absl::MutexLock lock(&mutex_);
    std::vector<uint64_t> offsets;
    for (const Waiting& each : waiting_) offsets.push_back(each.offset);
    return offsets;
  }

  std::atomic<int> ahead{0};     ///< fetches that nobody waited for when they began
  std::atomic<int> hastened{0};  ///< of those

 private:
  struct Waiting {
    uint64_t offset = 0;
    absl::Span<std::byte> into;
    FetchDone done;
  };
  const std::vector<std::byte> content_;
  absl::Mutex mutex_;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

TEST_CASE("prefetch: a sequential reader of the disk finds in memory what comes next") {
  Ahead ahead;
  const std::vector<std::byte> content = random_bytes(24 * kMebibyte + 12345, 1);
  const ObjectSpec spec = ahead.put(content, 1);
  ahead.reopen();
  const ObjectRef object = ahead.store().attach(spec);
  CHECK(read_slowly(ahead, *object, content, 0, content.size(), 128 * 1024) <= 3);
  const Stats stats = ahead.stats();
  CHECK(stats.prefetched_pages * kPageSize > 20 * kMebibyte);
  CHECK(stats.prefetch_used_pages == stats.prefetched_pages);
  CHECK(stats.prefetch_unread_bytes == 0);
  CHECK(stats.disk_read_bytes < content.size() + kMebibyte);
  CHECK(test::eventually([&] { return ahead.stats().memory_pinned_frames == 0; }));
}

TEST_CASE("prefetch: so do readers that block, and those with rings of their own") {
  Ahead ahead;
  const std::vector<std::byte> content = random_bytes(8 * kMebibyte, 1);
  const ObjectSpec spec = ahead.put(content, 1);
  for (const bool blocks : {false, true}) {
    CAPTURE(blocks);
    ahead.reopen();
    const ObjectRef object = ahead.store().attach(spec);
    ThreadRing ring;
    uint64_t missed = 0;
    for (uint64_t at = 0; at < content.size(); at += 64 * 1024) {
      ahead.settle();
      PinnedRange range;
      if (object->try_read(at, 64 * 1024, range)) continue;
      ++missed;
      std::atomic<bool> done{false};
      {
        const AllowBlocking allow(blocks);
        const ThreadRing::Scope scope(ring);
        object->read(at, 64 * 1024, [&](absl::StatusOr<PinnedRange> result) {
          CHECK(result.ok());
          done = true;
        });
        ring.submit();
        while (!done) {
          ring.finish();
          absl::SleepFor(absl::Microseconds(100));
        }
      }
    }
    CHECK(missed <= 6);
  }
}

TEST_CASE(
    "prefetch: what a source brings ahead is on the disk, too, and nothing is fetched twice") {
  Ahead ahead;
  const Remote remote(10 * kMebibyte + 100, 1);
  {
    const ObjectRef object = remote.attach(ahead.store());
    uint64_t missed = 0;
    for (uint64_t at = 0; at < remote.content().size(); at += 1'000'000) {
      const uint64_t end = std::min<uint64_t>(at + 1'000'000, remote.content().size());
      missed += read_slowly(ahead, *object, remote.content(), at, end, 100'000);
      ahead.store().wait_cached();  // or some is dropped where the disk is slow
    }
    CHECK(missed <= 4);
  }
  CHECK(remote.source->bytes == remote.content().size());
  ahead.store().wait_cached();
  ahead.reopen();
  CHECK(remote.read_all(ahead.store()) == 0);
}

TEST_CASE("prefetch: random reads fetch what is read") {
  Ahead ahead;
  const Remote remote(48 * kMebibyte, 1);
  const ObjectRef object = remote.attach(ahead.store());
  std::mt19937_64 random(5);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t page = random() % (remote.content().size() / kPageSize);
    REQUIRE(reads_as(*object, remote.content(), page * kPageSize, kPageSize));
  }
  ahead.settle();
  CHECK(remote.source->bytes <= 2000 * kPageSize * 11 / 10);
}

TEST_CASE("prefetch: who brings a range as a whole gets that, and no more") {
  Ahead ahead;
  const Remote remote(8 * kMebibyte, 1);
  const ObjectRef object = remote.attach(ahead.store());
  const NoReadahead whole;
  for (uint64_t at = 0; at < 2 * kMebibyte; at += 256 * 1024) {
    REQUIRE(reads_as(*object, remote.content(), at, 256 * 1024));
  }
  ahead.settle();
  CHECK(remote.source->bytes == 2 * kMebibyte);
  CHECK(ahead.stats().prefetched_pages == 0);
}

TEST_CASE("prefetch: switched off, nothing is brought that nobody asked for") {
  Ahead ahead(/*enabled=*/false);
  const Remote remote(4 * kMebibyte, 1);
  const ObjectRef object = remote.attach(ahead.store());
  for (uint64_t at = 0; at < kMebibyte; at += 4096) {
    REQUIRE(reads_as(*object, remote.content(), at, 4096));
  }
  CHECK(remote.source->bytes == kMebibyte);
  CHECK(ahead.stats().prefetched_pages == 0);
}

TEST_CASE(
    "prefetch: a reader that comes while it is under way waits for it, and asks for no more") {
  Ahead ahead;
  const std::vector<std::byte> content = random_bytes(4 * kMebibyte, 1);
  const auto source = std::make_shared<GatedSource>(content);
  const ObjectRef object = ahead.store().attach_cached({key_of(1), content.size(), source});
  std::atomic<int> answers{0};
  const auto read = [&](uint64_t offset) {
    object->read(offset, 64 * 1024, [&](absl::StatusOr<PinnedRange> result) {
      CHECK(result.ok());
      ++answers;
    });
  };
  read(0);
  // What is waited for goes first, on the wire, too.
  REQUIRE(source->asked().size() >= 2);
  CHECK(source->asked().at(0) == 0);
  CHECK(source->asked().at(1) == 64 * 1024);
  CHECK(source->ahead == static_cast<int>(source->asked().size()) - 1);
  CHECK(source->hastened == 0);
  read(64 * 1024);
  CHECK(source->hastened == 1);
  const std::vector<uint64_t> asked = source->asked();
  CHECK(std::count(asked.begin(), asked.end(), 64 * 1024) == 1);
  source->answer(2);
  CHECK(test::eventually([&] { return answers == 2; }));
  CHECK(ahead.stats().prefetch_late_pages == 16);
  source->answer(1000);
}

TEST_CASE("prefetch: what cannot be had fails nobody who did not ask, and is asked for again") {
  Ahead ahead;
  const std::vector<std::byte> content = random_bytes(4 * kMebibyte, 1);
  const auto source = std::make_shared<GatedSource>(content);
  const ObjectRef object = ahead.store().attach_cached({key_of(1), content.size(), source});
  absl::Status status;
  object->read(0, 4096,
               [&](const absl::StatusOr<PinnedRange>& result) { status = result.status(); });
  source->answer(1);
  source->answer(1000, absl::UnavailableError("away"));
  CHECK(status.ok());
  const Stats stats = ahead.stats();
  CHECK(stats.prefetch_failed_pages == stats.prefetched_pages);
  CHECK(stats.prefetch_unread_bytes == 0);
  CHECK(stats.read_errors == 0);
  bool done = false;
  object->read(4096, 4096, [&](const absl::StatusOr<PinnedRange>& result) {
    CHECK(result.ok());
    done = true;
  });
  CHECK(source->asked() == std::vector<uint64_t>{4096});
  source->answer(1);
  CHECK(done);
}

TEST_CASE("prefetch: a source that hangs keeps nobody from what the disk has") {
  Ahead ahead;
  const std::vector<std::byte> content = random_bytes(32 * kMebibyte, 1);
  const ObjectSpec spec = ahead.put(content, 1);
  ahead.reopen();
  std::vector<std::shared_ptr<GatedSource>> sources;
  std::vector<ObjectRef> objects;
  for (uint8_t i = 2; i < 40; ++i) {
    sources.push_back(std::make_shared<GatedSource>(content));
    objects.push_back(ahead.store().attach_cached({key_of(i), content.size(), sources.back()}));
    objects.back()->read(0, kMebibyte, [](const absl::StatusOr<PinnedRange>& /*result*/) {});
  }
  const ObjectRef object = ahead.store().attach(spec);
  CHECK(reads_whole(*object, content));
  CHECK(ahead.stats().prefetch_used_pages > 0);
  while (ahead.stats().flights > 0) {
    for (const auto& source : sources) source->answer(1000, absl::CancelledError("the end"));
    absl::SleepFor(absl::Milliseconds(1));
  }
}

TEST_CASE("prefetch: a small memory holds what is read, and the budget what is ahead") {
  Ahead ahead(true, PageStore::kMinMemory);
  const Remote remote(64 * kMebibyte, 1);
  const ObjectRef object = remote.attach(ahead.store());
  std::atomic<bool> ends{false};
  std::atomic<uint64_t> most{0};
  std::thread watch([&] {
    while (!ends) most = std::max<uint64_t>(most, ahead.stats().prefetch_unread_bytes);
  });
  CHECK(reads_whole(*object, remote.content()));
  ends = true;
  watch.join();
  CHECK(most <= PageStore::kMinMemory / 4);
  CHECK(ahead.stats().prefetch_evicted_pages == 0);
  ahead.settle();
  CHECK(ahead.stats().memory_resident_bytes <= PageStore::kMinMemory);
}

TEST_CASE("prefetch: what waits for its reader is there whatever others read meanwhile") {
  Ahead ahead(true, 16 * kMebibyte);
  ahead.options().prefetch.stale_after = absl::InfiniteDuration();
  ahead.reopen();
  const Remote remote(4 * kMebibyte, 1);
  const Remote other(64 * kMebibyte, 2);
  const ObjectRef object = remote.attach(ahead.store());
  CHECK(reads_as(*object, remote.content(), 0, 256 * 1024));
  ahead.settle();
  const uint64_t brought = ahead.stats().prefetch_unread_bytes;
  REQUIRE(brought > 0);
  const ObjectRef scanned = other.attach(ahead.store());
  CHECK(reads_whole(*scanned, other.content()));
  PinnedRange range;
  CHECK(object->try_read(256 * 1024, brought, range));
}

TEST_CASE("prefetch: a reader that stopped keeps no memory") {
  Ahead ahead(true, PageStore::kMinMemory);
  ahead.options().prefetch.stale_after = absl::Milliseconds(300);
  ahead.reopen();
  // As many as the budget lets stop.
  std::vector<ObjectRef> stopped;
  for (uint8_t i = 0; i < 20; ++i) {
    stopped.push_back(Remote(kMebibyte, i).attach(ahead.store()));
    REQUIRE(stopped.back()->read_wait(0, 128 * 1024).ok());
  }
  ahead.settle();
  CHECK(ahead.stats().prefetch_unread_bytes > 0);
  absl::SleepFor(absl::Milliseconds(310));
  const Remote remote(8 * kMebibyte, 100);
  const ObjectRef object = remote.attach(ahead.store());
  const uint64_t used = ahead.stats().prefetch_used_pages;
  (void)read_slowly(ahead, *object, remote.content(), 0, remote.content().size(), 128 * 1024);
  CHECK(ahead.stats().prefetch_used_pages > used);
  CHECK(ahead.stats().prefetch_evicted_pages > 0);
}

TEST_CASE("prefetch: many readers of many objects at once read right bytes") {
  Ahead ahead(true, 16 * kMebibyte);
  std::vector<Remote> remotes;
  for (uint8_t i = 0; i < 4; ++i) remotes.emplace_back(6 * kMebibyte + i, i);
  std::vector<std::thread> readers;
  for (unsigned n = 0; n < 8; ++n) {
    readers.emplace_back([&, n] {
      std::mt19937_64 random(n);
      const Remote& remote = remotes.at(n % remotes.size());
      const ObjectRef object = remote.attach(ahead.store());
      const uint64_t size = remote.content().size();
      for (int run = 0; run < 40; ++run) {
        uint64_t at = random() % size;
        const uint64_t length = 1 + random() % 200'000;
        const bool backward = random() % 3 == 0;
        for (int i = 0; i < 10 && at + length < size; ++i) {
          REQUIRE(reads_as(*object, remote.content(), at, length));
          if (backward && at < length) break;
          at = backward ? at - length : at + length;
        }
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  ahead.settle();
  const Stats stats = ahead.stats();
  CHECK(stats.prefetch_used_pages + stats.prefetch_evicted_pages + stats.prefetch_failed_pages +
            stats.prefetch_unread_bytes / kPageSize ==
        stats.prefetched_pages);
  CHECK(test::eventually([&] { return ahead.stats().memory_pinned_frames == 0; }));
}

}  // namespace blobcache::page
