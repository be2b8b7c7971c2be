#include "store/page/page_store.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "store/page/geometry.h"
#include "test/eventually.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
TEST_CASE("objects of every awkward size read back, also after a restart") {
  Fixture fixture;
  const std::vector<size_t> sizes = {1,
                                     4095,
                                     4096,
                                     4097,
                                     kExtentSize - 1,
                                     kExtentSize,
                                     kExtentSize + 1,
                                     (1U << 20) - 1,
                                     1U << 20,
                                     (1U << 20) + 1,
                                     5 * 1000 * 1000};
  std::vector<ObjectSpec> specs;
  for (size_t i = 0; i < sizes.size(); ++i) {
    specs.push_back(
        fixture.put(random_bytes(sizes[i], static_cast<uint32_t>(i)), static_cast<uint8_t>(i)));
  }
  for (const bool restarted : {false, true}) {
    if (restarted) fixture.reopen();
    for (size_t i = 0; i < sizes.size(); ++i) {
      CAPTURE(sizes[i]);
      const auto content = random_bytes(sizes[i], static_cast<uint32_t>(i));
      const ObjectRef object = fixture.store().attach(specs[i]);
      CHECK(reads_whole(*object, content));
      CHECK(std::filesystem::file_size(fixture.file_of(specs[i])) == sizes[i]);
    }
  }
}

TEST_CASE("a read that L0 holds is answered by try_read, across extents and unaligned") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(3 * kExtentSize + 123, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  PinnedRange range;
  CHECK_FALSE(object->try_read(0, 1, range));
  REQUIRE(reads_whole(*object, content));
  for (const auto& [offset, length] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 1},
                                                  {4095, 2},
                                                  {kExtentSize - 1, 2},
                                                  {1, 3 * kExtentSize},
                                                  {content.size() - 1, 1}}) {
    REQUIRE(object->try_read(offset, length, range));
    CHECK(same(range, absl::MakeConstSpan(content).subspan(offset, length)));
  }
  CHECK(fixture.store().stats().memory_pinned_frames == 1);
  range.release();
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("ranges outside the object are OUT_OF_RANGE, never a crash") {
  Fixture fixture;
  const ObjectRef object = fixture.store().attach(fixture.put(random_bytes(10000, 1), 1));
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 0}, {10000, 1}, {9999, 2}, {UINT64_MAX, 2}, {1, UINT64_MAX}, {0, 10001}}) {
    CAPTURE(offset);
    CAPTURE(length);
    CHECK(absl::IsOutOfRange(object->read_wait(offset, length).status()));
  }
}

TEST_CASE("a miss of one page moves one page") {
  Fixture fixture;
  const auto content = random_bytes(8U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  CHECK(reads_as(*object, content, 5 * kPageSize + 7, 100));
  CHECK(fixture.store().stats().disk_read_bytes - before == kPageSize);
  CHECK(fixture.store().stats().memory_resident_bytes == kPageSize);
}

TEST_CASE("zero pages take no disk and are read without it") {
  Fixture fixture;
  std::vector<std::byte> content(20U << 20);
  const auto middle = random_bytes(kPageSize, 1);
  std::copy(middle.begin(), middle.end(), content.begin() + (10 << 20));
  const ObjectSpec spec = fixture.put(content, 1);
  CHECK(blocks_of(fixture.file_of(spec)) <= 2 * kPageSize);
  CHECK(fixture.disk_bytes < 64 * 1024);
  const ObjectRef object = fixture.store().attach(spec);
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  CHECK(reads_whole(*object, content));
  CHECK(fixture.store().stats().disk_read_bytes - before == kPageSize);
  // Nor memory, beside the extent that holds the data.
  CHECK(fixture.store().stats().memory_resident_bytes <= kExtentSize);
  PinnedRange zeros;
  CHECK(object->try_read(kExtentSize - 100, 200, zeros));
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
  const auto residency = object->residency();
  REQUIRE(residency.ok());
  CHECK(residency->zero_pages == page_count(content.size()) - 1);
  CHECK(residency->disk_pages == page_count(content.size()));
}

TEST_CASE("readers of the same cold bytes make one fetch") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(5 * kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  // An answer that takes its time, on the thread that all reads of the disk end on.
  constexpr uint64_t kLast = 4 * kExtentSize;
  absl::Notification held;
  absl::Notification all_wait;
  object->read(kLast, 1, [&](const absl::StatusOr<PinnedRange>&) {
    held.Notify();
    all_wait.WaitForNotification();
  });
  held.WaitForNotification();
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  constexpr uint64_t kReaders = 4;
  for (uint64_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&] { wrong += reads_as(*object, content, 0, kLast) ? 0 : 1; });
  }
  // All but the one whose fetch it is.
  const uint64_t shared = (kReaders - 1) * page_count(kLast);
  CHECK(test::eventually([&] { return fixture.store().stats().shared_flight_pages >= shared; }));
  all_wait.Notify();
  for (auto& reader : readers) reader.join();
  CHECK(wrong == 0);
  CHECK(fixture.store().stats().shared_flight_pages == shared);
  CHECK(fixture.store().stats().disk_read_bytes - before == kLast);
}

TEST_CASE("many readers under a budget far smaller than the data get right bytes") {
  Fixture fixture(PageStore::kMinMemory);
  SUBCASE("past the page cache") {}
  // Quick answers, so that many frames are pinned at once, and those that the policy prefers.
  SUBCASE("from the page cache") {
    fixture.options().direct_io = DirectIo::kOff;
    fixture.reopen();
  }
  const auto content = random_bytes(48U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 400; ++i) {
        const uint64_t length = 1 + random() % Object::kMaxRead;
        const uint64_t offset = random() % (content.size() - length);
        wrong += reads_as(*object, content, offset, length) ? 0 : 1;
      }
    });
  }
  for (auto& reader : readers) reader.join();
  CHECK(wrong == 0);
  const Stats stats = fixture.store().stats();
  CHECK(stats.memory_resident_bytes <= PageStore::kMinMemory);
  CHECK(stats.memory_evicted_extents > 0);
  CHECK(stats.memory_pinned_frames == 0);
  CHECK(stats.flights == 0);
}

TEST_CASE("reads wait while every frame is pinned, and go on when one is let go") {
  Fixture fixture(PageStore::kMinMemory);
  const auto content = random_bytes(32U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  // 1/16 of the budget is for checksums; the rest is frames.
  constexpr uint64_t kFrames = PageStore::kMinMemory / 16 * 15 / kExtentSize;
  std::vector<PinnedRange> held;
  for (uint64_t i = 0; i < kFrames; ++i) {
    auto range = object->read_wait(i * kExtentSize, kExtentSize);
    REQUIRE(range.ok());
    held.push_back(*std::move(range));
  }
  std::atomic<int> answers{0};
  std::atomic<int> wrong{0};
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t offset = (kFrames + i) * kExtentSize;
    object->read(offset, kExtentSize, [&, offset](absl::StatusOr<PinnedRange> result) {
      const auto expected = absl::MakeConstSpan(content).subspan(offset, kExtentSize);
      wrong += result.ok() && same(*result, expected) ? 0 : 1;
      ++answers;
    });
  }
  CHECK(answers == 0);
  held.clear();
  REQUIRE(test::eventually([&] { return answers == 3; }));
  CHECK(wrong == 0);
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a writer that is not kept leaves nothing and gives its room back") {
  Fixture fixture;
  const uint64_t before = fixture.store().stats().disk_used_bytes;
  for (const bool sealed : {false, true}) {
    auto writer = fixture.store().create(Retention::kKept, 0);
    REQUIRE(writer.ok());
    REQUIRE((*writer)->append(random_bytes(5U << 20, 1)).ok());
    CHECK(fixture.store().stats().disk_used_bytes > before);
    if (sealed) REQUIRE((*writer)->seal(ObjectKey(), {}).ok());
    writer->reset();
    CHECK(fixture.store().stats().disk_used_bytes == before);
    CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
    CHECK(std::filesystem::is_empty(fixture.path() / "objects" / "00"));
  }
}

TEST_CASE("what a crash leaves is gone after the next start") {
  Fixture fixture;
  {
    std::ofstream(fixture.path() / "tmp" / "0123.map") << "half";
  }
  const ObjectSpec known = fixture.put(random_bytes(2U << 20, 1), 1);
  const ObjectSpec orphan = fixture.put(random_bytes(2U << 20, 2), 2);
  {
    std::ofstream(fixture.path() / "objects" / "02" / "README") << "not ours";
  }
  auto writer = fixture.store().create(Retention::kKept, 0);
  REQUIRE(writer.ok());
  REQUIRE((*writer)->append(random_bytes(100, 3)).ok());
  ObjectKey under_way;
  under_way.bytes[0] = 3;
  REQUIRE((*writer)->seal(under_way, {}).ok());
  int removed = 0;
  const absl::Status swept = fixture.store().for_each_leftover(
      [&](const ObjectKey& key, const Incarnation&) { return key == known.key; },
      [&](const Leftover& leftover) {
        removed += fixture.store().remove_leftover(leftover).value_or(false) ? 1 : 0;
        return absl::OkStatus();
      });
  REQUIRE(swept.ok());
  CHECK(removed == 2);  // data and map
  CHECK(std::filesystem::exists(fixture.file_of(known)));
  CHECK_FALSE(std::filesystem::exists(fixture.file_of(orphan)));
  CHECK(std::filesystem::exists(fixture.path() / "objects" / "02" / "README"));
  CHECK_FALSE(std::filesystem::is_empty(fixture.path() / "objects" / "03"));
  writer->reset();
  fixture.reopen();
  CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
}

TEST_CASE("a removed object stays readable for who holds it, and its room is free") {
  Fixture fixture;
  const auto content = random_bytes(3U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  const ObjectRef object = fixture.store().attach(spec);
  const uint64_t used = fixture.store().stats().disk_used_bytes;
  REQUIRE(fixture.store()
              .remove(spec.key, spec.incarnation, Retention::kKept, fixture.disk_bytes)
              .ok());
  CHECK(fixture.store().stats().disk_used_bytes == used - fixture.disk_bytes);
  CHECK_FALSE(std::filesystem::exists(fixture.file_of(spec)));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a put past the budget fails and the store goes on") {
  Fixture fixture(PageStore::kMinMemory, 4U << 20);
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  CHECK(absl::IsResourceExhausted(fixture.store().create(Retention::kKept, 64U << 20).status()));
  auto writer = fixture.store().create(Retention::kKept, 0);
  REQUIRE(writer.ok());
  CHECK(absl::IsResourceExhausted((*writer)->append(random_bytes(8U << 20, 2))));
  writer->reset();
  CHECK(fixture.store().stats().disk_used_bytes <= (4U << 20));
  CHECK(reads_whole(*fixture.store().attach(spec), content));
  fixture.put(random_bytes(1U << 20, 3), 3);
}

TEST_CASE("evict_memory drops what is not pinned") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(4 * kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  REQUIRE(reads_whole(*object, content));
  PinnedRange pinned;
  REQUIRE(object->try_read(0, 1, pinned));
  CHECK(fixture.store().evict_memory(*object) == 3 * kPagesPerExtent);
  PinnedRange range;
  CHECK(object->try_read(0, kExtentSize, range));
  CHECK_FALSE(object->try_read(kExtentSize, 1, range));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a memory budget below the least is refused") {
  test::TemporaryDirectory directory;
  PageStoreOptions options;
  options.path = directory.path();
  options.memory_bytes = 1U << 20;
  CHECK(absl::IsInvalidArgument(PageStore::open(options).status()));
  options.memory_bytes = PageStore::kMinMemory;
  options.eviction = "random";
  CHECK(absl::IsInvalidArgument(PageStore::open(options).status()));
  options.eviction = "s3-fifo";
  options.path = directory.path() / "absent";
  CHECK(absl::IsNotFound(PageStore::open(options).status()));
}

}  // namespace blobcache::page
