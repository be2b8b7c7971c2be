#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

using Runs = std::vector<MapRun>;

absl::StatusOr<Runs> try_map(Object& object, uint64_t offset, uint64_t length,
                             size_t max_runs = 1000) {
  absl::Notification told;
  absl::StatusOr<Runs> answer = absl::UnknownError("");
  object.map(offset, length, max_runs, [&](absl::StatusOr<Runs> result) {
    answer = std::move(result);
    told.Notify();
  });
  told.WaitForNotification();
  return answer;
}

Runs map(Object& object, uint64_t offset, uint64_t length, size_t max_runs = 1000) {
  auto answer = try_map(object, offset, length, max_runs);
  REQUIRE(answer.ok());
  return *std::move(answer);
}

TEST_CASE("map: pages are on disk, then in memory as far as they were read") {
  Fixture fixture;
  const auto content = random_bytes(3 * kExtentSize + 100, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  CHECK(map(*object, 0, content.size()) == Runs{{content.size(), Place::kDisk}});
  REQUIRE(reads_as(*object, content, kExtentSize + kPageSize, 2 * kPageSize));
  CHECK(map(*object, 0, content.size()) ==
        Runs{{kExtentSize + kPageSize, Place::kDisk},
             {2 * kPageSize, Place::kMemory},
             {content.size() - kExtentSize - 3 * kPageSize, Place::kDisk}});
  // From anywhere to anywhere.
  CHECK(map(*object, kExtentSize + 5000, 4000) == Runs{{4000, Place::kMemory}});
  CHECK(map(*object, kExtentSize + 4095, 4) == Runs{{1, Place::kDisk}, {3, Place::kMemory}});
  CHECK(map(*object, content.size() - 1, 1) == Runs{{1, Place::kDisk}});
  fixture.store().evict_memory(*object);
  CHECK(map(*object, 0, content.size()) == Runs{{content.size(), Place::kDisk}});
}

TEST_CASE("map: zeros are nowhere, by the page") {
  Fixture fixture;
  std::vector<std::byte> content(5 * kExtentSize);
  const auto data = random_bytes(3 * kPageSize, 1);
  std::copy(data.begin(), data.end(), content.begin() + kExtentSize + kPageSize);
  const Runs expected{{kExtentSize + kPageSize, Place::kZero},
                      {3 * kPageSize, Place::kDisk},
                      {4 * kExtentSize - 4 * kPageSize, Place::kZero}};
  const ObjectSpec spec = fixture.put(content, 1);
  CHECK(map(*fixture.store().attach(spec), 0, content.size()) == expected);
  // The same of a map that is read from its file.
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(map(*object, 0, content.size()) == expected);
  // Zeros that a frame holds beside data are zeros still.
  REQUIRE(reads_as(*object, content, kExtentSize, kExtentSize));
  CHECK(map(*object, 0, kExtentSize + 2 * kPageSize) ==
        Runs{{kExtentSize + kPageSize, Place::kZero}, {kPageSize, Place::kMemory}});
}

TEST_CASE("map: a small object's map is in its row") {
  Fixture fixture;
  const auto content = random_bytes(5000, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  CHECK(map(*object, 0, 5000) == Runs{{5000, Place::kDisk}});
}

TEST_CASE("map: it tells a bounded number of runs, and goes no further than it may") {
  Fixture fixture;
  const auto content = random_bytes(8 * kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  for (uint64_t page = 0; page < 20; page += 2) {
    REQUIRE(reads_as(*object, content, page * kPageSize, kPageSize));
  }
  CHECK(map(*object, 0, content.size(), 3) ==
        Runs{{kPageSize, Place::kMemory}, {kPageSize, Place::kDisk}, {kPageSize, Place::kMemory}});
  CHECK(map(*object, kPageSize, content.size() - kPageSize, 1) == Runs{{kPageSize, Place::kDisk}});
  CHECK(map(*object, 0, content.size(), 0).size() == 1);
  CHECK(map(*object, 0, content.size()).size() == 20);
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 0}, {content.size(), 1}, {1, content.size()}, {~uint64_t{0}, 2}}) {
    CHECK(absl::IsOutOfRange(try_map(*object, offset, length).status()));
  }
  constexpr uint64_t kHuge = Object::kMaxMapped + kExtentSize;
  const ObjectRef huge = fixture.store().attach_cached(
      {key_of(9), kHuge, std::make_shared<ContentSource>(std::vector<std::byte>())});
  CHECK(map(*huge, 0, kHuge) == Runs{{Object::kMaxMapped, Place::kRemote}});
  CHECK(map(*huge, kHuge - 10, 10) == Runs{{10, Place::kRemote}});
}

TEST_CASE("map: what a source has is remote, until it was read") {
  Fixture fixture(kMemory);
  const Remote remote(2 * kExtentSize, 1);
  const ObjectRef object = remote.attach(fixture.store());
  CHECK(map(*object, 0, object->size_bytes()) == Runs{{2 * kExtentSize, Place::kRemote}});
  REQUIRE(reads_as(*object, remote.content(), 0, kPageSize));
  CHECK(map(*object, 0, object->size_bytes()) ==
        Runs{{kPageSize, Place::kMemory}, {2 * kExtentSize - kPageSize, Place::kRemote}});
  fixture.store().wait_cached();
  fixture.store().evict_memory(*object);
  CHECK(map(*object, 0, object->size_bytes()) ==
        Runs{{kPageSize, Place::kDisk}, {2 * kExtentSize - kPageSize, Place::kRemote}});
}

TEST_CASE("map: what no tier has is lost") {
  Fixture fixture;
  const auto content = random_bytes(5 * kExtentSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  flip_byte(fixture.map_of(spec), 4096 + 100);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(map(*object, 0, content.size()) == Runs{{content.size(), Place::kLost}});
}

TEST_CASE("map: a look that waits for the disk can be ended") {
  Fixture fixture;
  const auto content = random_bytes(5 * kExtentSize, 1);
  const ObjectSpec first = fixture.put(content, 1);
  const ObjectSpec second = fixture.put(content, 2);
  fixture.reopen();
  // The thread that all reads of the disk end on is kept.
  const ObjectRef busy = fixture.store().attach(first);
  absl::Notification held;
  absl::Notification go_on;
  busy->read(0, 1, [&](const absl::StatusOr<PinnedRange>&) {
    held.Notify();
    go_on.WaitForNotification();
  });
  held.WaitForNotification();
  const ObjectRef object = fixture.store().attach(second);
  int answers = 0;
  absl::Status status;
  PendingRead pending = object->map(0, content.size(), 10, [&](const absl::StatusOr<Runs>& runs) {
    ++answers;
    status = runs.status();
  });
  CHECK(answers == 0);
  pending.cancel();
  CHECK(answers == 1);
  CHECK(absl::IsCancelled(status));
  go_on.Notify();
  CHECK(map(*object, 0, content.size()) == Runs{{content.size(), Place::kDisk}});
  pending.cancel();
  CHECK(answers == 1);
}

TEST_CASE("pinned range: views of zeros are known, and come off by themselves") {
  Fixture fixture;
  std::vector<std::byte> content(4 * kExtentSize);
  const auto data = random_bytes(kExtentSize, 1);
  std::copy(data.begin(), data.end(), content.begin() + 2 * kExtentSize);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  auto range = object->read_wait(100, content.size() - 100);
  REQUIRE(range.ok());
  CHECK(range->has_zeros());
  CHECK_FALSE(range->all_zeros());
  PinnedRange front;
  range->take_front(front);
  CHECK(front.all_zeros());
  CHECK(front.size_bytes() == 2 * kExtentSize - 100);
  range->take_front(front);
  CHECK_FALSE(front.has_zeros());
  CHECK(same(front, data));
  CHECK(range->all_zeros());
  CHECK(range->size_bytes() == kExtentSize);
  CHECK(fixture.store().stats().memory_pinned_frames == 1);
  range->take_front(front);
  CHECK(front.all_zeros());
  CHECK(range->pieces().empty());
  CHECK(range->size_bytes() == 0);
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

}  // namespace
}  // namespace blobcache::page
