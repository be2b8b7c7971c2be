// What follows from disks that fail: at each read, write and sync in turn, and for good.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <vector>

#include "store/page/impl/disk_health.h"
#include "store/page/page_map.h"
#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
TEST_CASE(
    "disk faults: a put that fails at any write or sync leaves nothing, and the next one goes") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(5U << 20, 1);
  int failures = 0;
  for (const auto kind : {DiskStep::Kind::kWrite, DiskStep::Kind::kSync}) {
    for (int at = 0;; ++at) {
      CAPTURE(at);
      faults.arm(kind, at, -EIO);
      ObjectSpec spec;
      const absl::Status status = fixture.try_put(content, spec);
      faults.disarm();
      if (faults.seen() <= at) {
        // There is no such step: the put went through.
        REQUIRE(status.ok());
        CHECK(reads_whole(*fixture.store().attach(spec), content));
        REQUIRE(fixture.store()
                    .remove(spec.key, spec.incarnation, Retention::kKept, (5U << 20) + 16384)
                    .ok());
        break;
      }
      ++failures;
      CHECK_FALSE(status.ok());
      CHECK_FALSE(absl::IsResourceExhausted(status));
      CHECK(fixture.files_on_disk() == 0);
      CHECK(fixture.store().stats().disk_used_bytes == 0);
    }
  }
  CHECK(failures >= 6);
  CHECK(fixture.store().stats().disk_errors == static_cast<uint64_t>(failures));
}

TEST_CASE("disk faults: reads and writes that move a part at first are finished") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(3'000'000, 1);
  faults.arm(DiskStep::Kind::kWrite, 0, static_cast<int>(kPageSize), /*from_there_on=*/true);
  ObjectSpec spec;
  REQUIRE(fixture.try_put(content, spec).ok());
  faults.arm(DiskStep::Kind::kRead, 0, static_cast<int>(kPageSize), /*from_there_on=*/true);
  CHECK(reads_whole(*fixture.store().attach(spec), content));
  CHECK(faults.seen() > 0);
  CHECK(fixture.store().stats().disk_errors == 0);
}

TEST_CASE("disk faults: a failed read is an error where there is nothing else, and passes") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(300'000, 1);
  ObjectSpec spec;
  REQUIRE(fixture.try_put(content, spec).ok());
  const ObjectRef object = fixture.store().attach(spec);
  faults.arm(DiskStep::Kind::kRead, 0, -EIO);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("disk faults: what a source has is read on, without the disk while it is out of use") {
  Faults faults;
  Fixture fixture(64U << 20, 1U << 30, nullptr, faults.hook());
  std::atomic<int64_t> seconds{0};
  fixture.options().disk_clock = [&] { return absl::FromUnixSeconds(seconds); };
  fixture.reopen();
  const auto content = random_bytes(16U << 20, 1);
  ObjectSpec spec;
  REQUIRE(fixture.try_put(content, spec).ok());
  const auto source = std::make_shared<ContentSource>(content);
  spec.source = source;
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_as(*object, content, 0, kPageSize));
  CHECK(source->fetches == 0);
  faults.arm(DiskStep::Kind::kRead, 0, -EIO, /*from_there_on=*/true);
  for (uint64_t extent = 1; extent < 60; ++extent) {
    CHECK(reads_as(*object, content, extent * kExtentSize, kPageSize));
  }
  CHECK(source->fetches == 59);
  CHECK(fixture.store().stats().disk_out);
  // The first errors, and none since. A map is asked for twice.
  CHECK(faults.seen() <= static_cast<int>(DiskHealth::kErrorsInARow) + 1);
  // A put is refused at once, and all reads of what L0 holds go on.
  ObjectSpec refused;
  CHECK(absl::IsUnavailable(fixture.try_put(content, refused)));
  CHECK(reads_as(*object, content, 0, kPageSize));

  // The disk comes back: one try finds out, once the pause is over.
  faults.disarm();
  fixture.store().evict_memory(*object);
  CHECK(reads_as(*object, content, 0, kPageSize));
  CHECK(fixture.store().stats().disk_out);
  seconds += 1 + absl::ToInt64Seconds(DiskHealth::kFirstPause);
  CHECK(reads_as(*object, content, kExtentSize, kPageSize));
  CHECK(!fixture.store().stats().disk_out);
  ObjectSpec again;
  again.key.bytes[0] = 9;
  CHECK(fixture.try_put(content, again).ok());
}

TEST_CASE("disk faults: a disk that takes writes again is in use again though nobody asks for it") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  std::atomic<int64_t> seconds{0};
  const auto clock = [&] { return absl::FromUnixSeconds(seconds); };
  fixture.options().disk_clock = clock;
  fixture.options().clock = clock;
  fixture.reopen();
  // The store's thread looks at its clock when it has something to do.
  const auto pass = [&](int64_t time) {
    seconds += time;
    fixture.store().forget_cached(ObjectKey());
    fixture.store().wait_cached();
  };
  const auto content = random_bytes(100'000, 1);
  faults.arm(DiskStep::Kind::kWrite, 0, -EROFS, /*from_there_on=*/true);
  ObjectSpec spec;
  CHECK_FALSE(fixture.try_put(content, spec).ok());
  REQUIRE(fixture.store().stats().disk_out);
  pass(600);
  CHECK(fixture.store().stats().disk_out);
  faults.disarm();
  pass(600);
  CHECK_FALSE(fixture.store().stats().disk_out);
  CHECK(fixture.files_on_disk() == 0);
  CHECK(fixture.try_put(content, spec).ok());
}

TEST_CASE("disk faults: a read of a page map that fails once does not cost a repair") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash(), faults.hook());
  const auto content = random_bytes(3U << 20, 1);
  ObjectSpec spec;
  spec.key = sum_of(content);
  REQUIRE(fixture.try_put(content, spec).ok());
  const auto read_first = [&](int error, bool for_good) {
    fixture.reopen();
    // The first read is the map block's.
    faults.arm(DiskStep::Kind::kRead, 0, error, for_good);
    return fixture.store().attach(spec)->read_wait(0, 1);
  };
  CHECK(read_first(-EIO, false).ok());
  CHECK(fixture.store().stats().maps_rebuilt == 0);
  CHECK(fixture.store().stats().map_errors == 0);
  CHECK(read_first(-ETIMEDOUT, false).ok());
  CHECK(fixture.store().stats().maps_rebuilt == 0);
  CHECK(!read_first(-EIO, true).ok());
  faults.disarm();
}

TEST_CASE("disk faults: a page map that cannot be read for good is made again") {
  std::atomic<bool> failing{false};
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash(), [&](const DiskStep& step) {
    const bool is_map = step.kind == DiskStep::Kind::kRead && step.bytes == kMapBlockSize;
    return failing && is_map ? -EIO : 0;
  });
  const auto content = random_bytes(3U << 20, 1);
  ObjectSpec spec;
  spec.key = sum_of(content);
  REQUIRE(fixture.try_put(content, spec).ok());
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  failing = true;
  CHECK(!object->read_wait(0, kExtentSize).ok());
  CHECK(fixture.store().stats().maps_rebuilt >= 1);
  failing = false;
  CHECK(reads_whole(*object, content));
}

TEST_CASE("disk faults: a repair of a page map that cannot be written leaves no file") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash(), faults.hook());
  const auto content = random_bytes(3U << 20, 1);
  ObjectSpec spec;
  spec.key = sum_of(content);
  REQUIRE(fixture.try_put(content, spec).ok());
  flip_byte(fixture.map_of(spec), map_block_offset(0) + 50);
  const ObjectRef object = fixture.store().attach(spec);
  for (const auto kind : {DiskStep::Kind::kWrite, DiskStep::Kind::kSync, DiskStep::Kind::kRename}) {
    CAPTURE(static_cast<int>(kind));
    faults.arm(kind, 0, -ENOSPC, /*from_there_on=*/true);
    CHECK(!object->read_wait(0, 1).ok());
    CHECK(faults.seen() > 0);
    CHECK(Fixture::files_under(fixture.path() / "tmp") == 0);
  }
  faults.disarm();
  CHECK(reads_whole(*object, content));
}

TEST_CASE("disk faults: a sync of two puts that fails fails both, and leaves nothing") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  {
    std::vector<std::unique_ptr<ObjectWriter>> writers;
    for (const uint8_t name : {uint8_t{1}, uint8_t{2}}) {
      writers.push_back(fixture.store().create(Retention::kKept, 0).value());
      REQUIRE(writers.back()->append(random_bytes(2U << 20, name)).ok());
      ObjectKey key;
      key.bytes[0] = name;
      REQUIRE(writers.back()->seal(key, {.text = "a test", .records = {}}).ok());
    }
    const std::array<ObjectWriter*, 2> both = {writers[0].get(), writers[1].get()};
    faults.arm(DiskStep::Kind::kSync, 0, -EIO);
    CHECK(!fixture.store().sync(both).ok());
    CHECK(faults.seen() == 1);
  }
  CHECK(fixture.files_on_disk() == 0);
  CHECK(fixture.store().stats().disk_used_bytes == 0);
  CHECK(fixture.store().stats().disk_errors == 1);
}

TEST_CASE("disk faults: what is on disk of a source's object and fails comes from the source") {
  Faults faults;
  Fixture fixture(uint64_t{64} << 20, 1U << 30, nullptr, faults.hook());
  const auto source = std::make_shared<ContentSource>(random_bytes(3 * kExtentSize, 1));
  CachedSpec spec;
  spec.size_bytes = source->content().size();
  spec.source = source;
  CHECK(reads_whole(*fixture.store().attach_cached(spec), source->content()));
  fixture.reopen();
  fixture.store().wait_cached();
  const uint64_t before = source->bytes;
  faults.arm(DiskStep::Kind::kRead, 1, -EIO, /*from_there_on=*/true);
  CHECK(reads_whole(*fixture.store().attach_cached(spec), source->content()));
  CHECK(source->bytes - before > 0);
  CHECK(fixture.store().stats().read_errors == 0);
}

TEST_CASE("disk faults: a file system that turns read-only refuses puts, says so and is read on") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  std::atomic<int64_t> seconds{0};
  fixture.options().disk_clock = [&] { return absl::FromUnixSeconds(seconds); };
  fixture.reopen();
  const auto content = random_bytes(3U << 20, 1);
  ObjectSpec spec;
  spec.key.bytes[0] = 1;
  REQUIRE(fixture.try_put(content, spec).ok());
  faults.arm(DiskStep::Kind::kCreate, 0, -EROFS, /*from_there_on=*/true);
  ObjectSpec refused;
  CHECK(!fixture.try_put(content, refused).ok());
  CHECK(fixture.store().stats().disk_out);
  const absl::Status why = fixture.try_put(content, refused);
  CHECK(absl::IsUnavailable(why));
  CHECK(why.message().find("Read-only") != absl::string_view::npos);
  CHECK(faults.seen() == 1);
  CHECK(reads_whole(*fixture.store().attach(spec), content));
  CHECK(fixture.store().stats().disk_out);
  // It is tried again now and then, and once it is taken all is well.
  seconds += 1 + absl::ToInt64Seconds(DiskHealth::kFirstPause);
  CHECK(!fixture.try_put(content, refused).ok());
  CHECK(faults.seen() == 2);
  faults.disarm();
  seconds += 1 + 2 * absl::ToInt64Seconds(DiskHealth::kFirstPause);
  CHECK(fixture.try_put(content, refused).ok());
  CHECK(!fixture.store().stats().disk_out);
}

}  // namespace blobcache::page
