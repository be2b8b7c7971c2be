// What goes wrong for one reader stays his: a source that does not answer, a map that is being made
// again, a disk that takes no writes, memory that is all pinned.

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// A source that answers nobody before it is let go.
class SilentSource final : public Source {
 public:
  std::unique_ptr<Fetch> fetch(uint64_t /*offset*/, absl::Span<std::byte> /*into*/,
                               FetchDone done) override {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(done));
    return nullptr;
  }
  void fail_all() {
    std::vector<FetchDone> waiting;
    {
      absl::MutexLock lock(&mutex_);
      waiting.swap(waiting_);
    }
    for (FetchDone& done : waiting) done(absl::UnavailableError("away"));
  }

 private:
  absl::Mutex mutex_;
  std::vector<FetchDone> waiting_ ABSL_GUARDED_BY(mutex_);
};

/// A hash that is not made before it is let go: a repair that takes long.
struct SlowHash {
  absl::Notification asked;
  absl::Notification may_go_on;
  ContentHashFactory factory() {
    return [this]() -> std::unique_ptr<ContentHash> {
      if (!asked.HasBeenNotified()) asked.Notify();
      may_go_on.WaitForNotification();
      return std::make_unique<SumHash>();
    };
  }
};

/// Answers that have come, for reads of which nobody wants the bytes.
struct Answers {
  absl::Mutex mutex;
  int count ABSL_GUARDED_BY(mutex) = 0;

  Object::ReadDone one() {
    return [this](const absl::StatusOr<PinnedRange>&) {
      absl::MutexLock lock(&mutex);
      ++count;
    };
  }
  void wait_for(int wanted) {
    absl::MutexLock lock(&mutex);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return count >= wanted; };
    mutex.Await(absl::Condition(&there));
  }
};

ObjectSpec remote_spec(uint64_t size_bytes, std::shared_ptr<Source> source) {
  ObjectSpec spec;
  spec.key.bytes[0] = 0x77;
  spec.size_bytes = size_bytes;
  spec.incarnation = Incarnation::random();
  spec.source = std::move(source);
  return spec;
}

/// Pins so much of `object`'s start that no page more fits into memory.
std::vector<PinnedRange> pin_everything(PageStore& store, Object& object, uint64_t budget_bytes) {
  std::vector<PinnedRange> pinned;
  for (uint64_t at = 0; store.stats().memory_resident_bytes < budget_bytes;) {
    const uint64_t left = budget_bytes - store.stats().memory_resident_bytes;
    // What is resident and free is taken first, so that not every read adds to it.
    const uint64_t length = std::min(left, kExtentSize);
    auto range = object.read_wait(at, length);
    REQUIRE(range.ok());
    pinned.push_back(*std::move(range));
    at += kExtentSize;
  }
  return pinned;
}

}  // namespace

TEST_CASE("a source that does not answer keeps nobody from what the disk has") {
  Fixture fixture;
  const auto content = random_bytes(3U << 20, 1);
  const ObjectSpec local = fixture.put(content, 1);
  const auto source = std::make_shared<SilentSource>();
  const ObjectRef remote = fixture.store().attach(remote_spec(uint64_t{1} << 30, source));
  Answers answers;
  constexpr int kReads = 500;  // many more than there are places
  for (uint64_t i = 0; i < kReads; ++i) remote->read(i * kExtentSize, kPageSize, answers.one());
  CHECK(reads_whole(*fixture.store().attach(local), content));
  for (int i = 0; i < kReads; ++i) source->fail_all();
  answers.wait_for(kReads);
}

TEST_CASE("while one object's page map is made again the others are read") {
  SlowHash slow;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, slow.factory());
  const auto content = random_bytes(12U << 20, 1);
  SumHash hash;
  hash.update(content);
  const ObjectSpec damaged = fixture.put(content, hash.finish());
  const ObjectSpec whole = fixture.put(content, 2);
  flip_byte(fixture.map_of(damaged), 4096 + 50);
  const ObjectRef object = fixture.store().attach(damaged);
  Answers answers;
  constexpr int kReads = 500;
  for (int i = 0; i < kReads; ++i) {
    object->read(static_cast<uint64_t>(i % 16) << kPageShift, kPageSize, answers.one());
  }
  slow.asked.WaitForNotification();
  CHECK(reads_whole(*fixture.store().attach(whole), content));
  slow.may_go_on.Notify();
  answers.wait_for(kReads);
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a read that waited with a frame and turned out to be all zeros keeps no pin") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  // One page of data, then zeros.
  std::vector<std::byte> content = random_bytes(3U << 20, 1);
  std::fill(content.begin() + kPageSize, content.begin() + kExtentSize, std::byte{0});
  ObjectSpec spec = fixture.put(content, 1);
  spec.source = std::make_shared<ContentSource>(content);
  const ObjectRef object = fixture.store().attach(spec);
  // The map is not to be had at first, so the source brings the page.
  faults.arm(DiskStep::Kind::kRead, 0, -EIO, /*from_there_on=*/true);
  std::optional<PinnedRange> held = *object->read_wait(0, kPageSize);
  faults.disarm();
  const auto filler = std::make_shared<ContentSource>(random_bytes(16U << 20, 2));
  const ObjectRef other = fixture.store().attach(remote_spec(16U << 20, filler));
  const uint64_t budget = PageStore::kMinMemory - PageStore::kMinMemory / 16;
  std::vector<PinnedRange> pinned = pin_everything(fixture.store(), *other, budget);
  Answers answers;
  object->read(kPageSize, kPageSize, answers.one());
  CHECK(object->residency().ok());  // brings the map
  answers.wait_for(1);
  held.reset();
  pinned.clear();
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("reads that wait for memory at the end of the store end with it") {
  for (int round = 0; round < 20; ++round) {
    Fixture fixture;
    const auto source = std::make_shared<ContentSource>(random_bytes(16U << 20, 2));
    ObjectRef object = fixture.store().attach(remote_spec(16U << 20, source));
    const uint64_t budget = PageStore::kMinMemory - PageStore::kMinMemory / 16;
    std::vector<PinnedRange> pinned = pin_everything(fixture.store(), *object, budget);
    Answers answers;
    constexpr uint64_t kLast = (16U << 20) - kPageSize;
    PendingRead read = object->read(kLast, kPageSize, answers.one());
    read.cancel();
    answers.wait_for(1);
    pinned.clear();
    object = nullptr;
    fixture.close();
  }
}

TEST_CASE("what waits for a disk that takes nothing pins a part of memory only") {
  absl::Notification may_write;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, [&](const DiskStep& step) {
    if (step.kind == DiskStep::Kind::kWrite) may_write.WaitForNotification();
    return 0;
  });
  const auto source = std::make_shared<ContentSource>(random_bytes(16U << 20, 1));
  ObjectKey key;
  key.bytes[0] = 0x55;
  const ObjectRef object = fixture.store().attach_cached({key, 16U << 20, source});
  for (uint64_t at = 0; at < object->size_bytes(); at += kExtentSize) {
    CHECK(reads_as(*object, source->content(), at, kPageSize));
  }
  CHECK(fixture.store().stats().memory_pinned_frames <= (PageStore::kMinMemory / 8) / kExtentSize);
  may_write.Notify();
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("objects that nobody holds go when the tables of all grow large") {
  class Zeros final : public Source {
   public:
    std::unique_ptr<Fetch> fetch(uint64_t /*offset*/, absl::Span<std::byte> into,
                                 FetchDone done) override {
      std::fill(into.begin(), into.end(), std::byte{1});
      done(absl::OkStatus());
      return nullptr;
    }
  };
  Fixture fixture;
  const auto source = std::make_shared<Zeros>();
  constexpr uint64_t kTiB = uint64_t{1} << 40;
  constexpr uint64_t kChunk = 64 * kExtentSize;  // whose table takes 4 KiB
  for (uint8_t number = 0; number < 12; ++number) {
    ObjectSpec spec = remote_spec(kTiB, source);
    spec.key.bytes[1] = number;
    const ObjectRef object = fixture.store().attach(spec);
    for (uint64_t i = 0; i < 1024; ++i) CHECK(object->read_wait(i * kChunk, kPageSize).ok());
    fixture.store().evict_memory(*object);
  }
  // Each takes 4 MiB, and all may take 16.
  CHECK(fixture.store().stats().open_objects <= 5);
}

}  // namespace blobcache::page
