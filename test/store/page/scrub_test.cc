// What a scrub finds on the disk, and what it leaves alone.

#include "store/page/scrub.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "store/page/geometry.h"
#include "store/page/page_map.h"
#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// Lets a scrub go on for `steps` questions, and counts what it is told.
class CountingControl final : public ScrubControl {
 public:
  explicit CountingControl(uint64_t steps = UINT64_MAX) : steps_(steps) {}
  bool may_read(uint64_t bytes) override {
    if (steps_ == 0) return false;
    --steps_;
    asked_bytes += bytes;
    largest = std::max(largest, bytes);
    return true;
  }
  uint64_t asked_bytes = 0;
  uint64_t largest = 0;

 private:
  uint64_t steps_;
};

ObjectKey digest_of(absl::Span<const std::byte> content) {
  SumHash hash;
  hash.update(content);
  return hash.finish();
}

/// A store that checks hashes, and one object of `size` random bytes in it.
struct Scrubbed {
  explicit Scrubbed(size_t size, DiskFault fault = nullptr)
      : fixture(PageStore::kMinMemory, 1U << 30, sum_hash(), std::move(fault)),
        content(random_bytes(size, 1)),
        spec(fixture.put(content, digest_of(content))) {}

  ScrubResult scrub() {
    CountingControl control;
    absl::StatusOr<ScrubResult> result = fixture.store().scrub(spec, control);
    REQUIRE_MESSAGE(result.ok(), result.status().ToString());
    return *std::move(result);
  }

  Fixture fixture;
  std::vector<std::byte> content;
  ObjectSpec spec;
};

bool has(const ScrubResult& result, std::string_view text) {
  return result.reason.find(text) != std::string::npos;
}

std::vector<ByteRange> ranges(const ScrubResult& result) { return result.damaged.ranges(); }

}  // namespace

TEST_CASE("ranges that touch are one, and there is a bound of them") {
  RangeList list;
  list.add({0, 10});
  list.add({10, 5});
  list.add({20, 1});
  list.add({21, 0});
  CHECK(list.ranges() == std::vector<ByteRange>{{0, 15}, {20, 1}});
  for (uint64_t i = 0; i < RangeList::kMaxRanges; ++i) list.add({100 + 2 * i, 1});
  CHECK(list.ranges().size() == RangeList::kMaxRanges);
  CHECK(list.truncated());
}

TEST_CASE("a reason is told once") {
  ScrubResult result;
  CHECK(result.clean());
  result.add_reason("a");
  result.add_reason("b");
  result.add_reason("a");
  CHECK(result.reason == "a; b");
}

TEST_CASE("what is whole is clean, and every byte of it was read") {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{300'001}, size_t{1} << 20,
                            (size_t{1} << 20) + 1, size_t{9'000'000}}) {
    CAPTURE(size);
    Scrubbed object(size);
    CountingControl control;
    const auto result = object.fixture.store().scrub(object.spec, control);
    REQUIRE(result.ok());
    CHECK(result->clean());
    CHECK(result->damaged.empty());
    CHECK(result->checked_pages == page_count(size));
    CHECK(result->checked_bytes == object.fixture.disk_bytes);
    CHECK(control.asked_bytes == object.fixture.disk_bytes);
    CHECK(control.largest <= 1U << 20);
  }
}

TEST_CASE("holes are neither read nor damage, and count in the hash") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash());
  std::vector<std::byte> content(10U << 20);
  const auto data = random_bytes(kExtentSize, 1);
  std::copy(data.begin(), data.end(), content.begin() + (5U << 20) + 3 * kPageSize);
  const ObjectSpec spec = fixture.put(content, digest_of(content));
  CountingControl control;
  const auto result = fixture.store().scrub(spec, control);
  REQUIRE(result.ok());
  CHECK(result->clean());
  CHECK(result->checked_pages == page_count(content.size()));
  CHECK(control.asked_bytes == kExtentSize + 4 * 4096);  // a map of three blocks and its header
}

TEST_CASE("bytes that changed are found where they are, and no others") {
  Scrubbed object(9'000'000);
  const std::filesystem::path file = object.fixture.file_of(object.spec);
  for (const uint64_t page : {0U, 10U, 11U, 12U, 255U, 256U, 960U, 2197U}) {
    flip_byte(file, page * kPageSize + 100);
  }
  for (int round = 0; round < 2; ++round) {
    const ScrubResult result = object.scrub();
    CHECK(has(result, "do not match their checksums"));
    CHECK(!has(result, "digest"));
    CHECK(result.damaged_pages == 8);
    const uint64_t last = 2197 * kPageSize;
    CHECK(ranges(result) == std::vector<ByteRange>{{0, kPageSize},
                                                   {10 * kPageSize, 3 * kPageSize},
                                                   {255 * kPageSize, 2 * kPageSize},
                                                   {960 * kPageSize, kPageSize},
                                                   {last, object.content.size() - last}});
    CHECK(!result.map_repaired);
  }
  CHECK(object.fixture.store().stats().checksum_errors == 16);
  const ObjectRef reader = object.fixture.store().attach(object.spec);
  CHECK(reads_as(*reader, object.content, kPageSize, 9 * kPageSize));
  CHECK(absl::IsDataLoss(reader->read_wait(10 * kPageSize, 1).status()));
}

TEST_CASE("pages with right checksums and a wrong hash do not match their digest") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash());
  const auto content = random_bytes(300'000, 1);
  const ObjectSpec spec = fixture.put(content, /*name=*/7);
  CountingControl control;
  const auto result = fixture.store().scrub(spec, control);
  REQUIRE(result.ok());
  CHECK(has(*result, "does not match its digest"));
  CHECK(ranges(*result) == std::vector<ByteRange>{{0, content.size()}});
}

TEST_CASE("a file that is gone, cut short or too large is damage") {
  for (const size_t size : {size_t{300'000}, size_t{9'000'000}}) {
    CAPTURE(size);
    Scrubbed object(size);
    const std::filesystem::path file = object.fixture.file_of(object.spec);
    std::filesystem::resize_file(file, 200'000);
    ScrubResult result = object.scrub();
    CHECK(has(result, "cut short"));
    const uint64_t first_bad = 200'000 / kPageSize * kPageSize;
    CHECK(ranges(result) == std::vector<ByteRange>{{first_bad, size - first_bad}});
    CHECK(result.damaged_pages == page_count(size) - 200'000 / kPageSize);

    std::filesystem::resize_file(file, size + 1);
    result = object.scrub();
    CHECK(has(result, "larger"));

    std::filesystem::remove(file);
    result = object.scrub();
    CHECK(has(result, "gone"));
    CHECK(result.damaged_pages == page_count(size));
    CHECK(ranges(result) == std::vector<ByteRange>{{0, size}});

    std::filesystem::create_directory(file);
    CHECK(has(object.scrub(), "cannot be opened"));
  }
}

TEST_CASE("a damaged page map is made again, and told of") {
  Scrubbed object(9'000'000);
  const std::filesystem::path map = object.fixture.map_of(object.spec);
  for (const uint64_t offset : {uint64_t{20}, uint64_t{4096 + 50}, uint64_t{3 * 4096 + 900}}) {
    CAPTURE(offset);
    flip_byte(map, offset);
    ScrubResult result = object.scrub();
    CHECK(has(result, "made again"));
    CHECK(result.map_repaired);
    CHECK(result.damaged.empty());
    CHECK(result.damaged_pages == 0);
    CHECK(object.scrub().clean());
  }
  std::filesystem::remove(map);
  CHECK(has(object.scrub(), "is missing; it was made again"));
  CHECK(object.scrub().clean());
  CHECK(std::filesystem::is_empty(object.fixture.path() / "tmp"));
}

TEST_CASE("a damaged inline map is made again, and handed out") {
  Scrubbed object(300'000);
  const std::string good = object.spec.inline_map;
  object.spec.inline_map[20] ^= 1;
  const ScrubResult result = object.scrub();
  CHECK(result.map_repaired);
  CHECK(result.inline_map == good);
  CHECK(result.damaged.empty());
}

TEST_CASE("a page map that cannot be made again costs what it speaks of") {
  Scrubbed object(9'000'000);
  flip_byte(object.fixture.map_of(object.spec), 2 * 4096 + 50);
  flip_byte(object.fixture.file_of(object.spec), 3 * kPageSize);
  const ScrubResult result = object.scrub();
  CHECK(has(result, "cannot be made again"));
  CHECK(!result.map_repaired);
  CHECK(result.damaged_pages == 1 + kPagesPerMapBlock);
  const uint64_t block_bytes = kPagesPerMapBlock * kPageSize;
  CHECK(ranges(result) ==
        std::vector<ByteRange>{{3 * kPageSize, kPageSize}, {block_bytes, block_bytes}});
}

TEST_CASE("pages that the disk cannot read are damage for themselves alone") {
  std::atomic<bool> failing{false};
  const uint64_t bad = 100 * kPageSize;
  Scrubbed object(9'000'000, [&](const DiskStep& step) {
    const bool hit = step.offset <= bad && bad < step.offset + step.bytes;
    return failing && step.kind == DiskStep::Kind::kRead && hit ? -EIO : 0;
  });
  const ObjectRef reader = object.fixture.store().attach(object.spec);
  REQUIRE(reads_as(*reader, object.content, 0, kPageSize));
  REQUIRE(reads_as(*reader, object.content, kExtentSize, kPageSize));
  failing = true;
  const ScrubResult result = object.scrub();
  CHECK(has(result, "cannot be read"));
  CHECK(ranges(result) == std::vector<ByteRange>{{bad, kPageSize}});
  CHECK(object.fixture.store().stats().disk_errors > 0);
  CHECK(!object.fixture.store().stats().disk_out);
  failing = false;
  CHECK(object.scrub().clean());
  // Errors are not remembered.
  CHECK(reads_as(*reader, object.content, bad, kPageSize));
}

TEST_CASE("a scrub neither fills nor empties memory, and keeps no object in use") {
  Scrubbed object(9'000'000);
  CHECK(object.scrub().clean());
  CHECK(object.fixture.store().stats().memory_resident_bytes == 0);
  CHECK(object.fixture.store().stats().open_objects == 0);
  const ObjectRef reader = object.fixture.store().attach(object.spec);
  REQUIRE(reads_as(*reader, object.content, 0, Object::kMaxRead));
  const uint64_t resident = object.fixture.store().stats().memory_resident_bytes;
  CHECK(object.scrub().clean());
  CHECK(object.fixture.store().stats().memory_resident_bytes == resident);
  PinnedRange range;
  CHECK(reader->try_read(0, Object::kMaxRead, range));
  // Memory's bytes say nothing about the disk's.
  flip_byte(object.fixture.file_of(object.spec), 1);
  CHECK(ranges(object.scrub()) == std::vector<ByteRange>{{0, kPageSize}});
  CHECK(reader->residency()->disk_pages == page_count(object.content.size()) - 1);
  CHECK(reads_as(*reader, object.content, 0, 1));
}

TEST_CASE("a scrub that repairs a map leaves no object in the table") {
  Scrubbed object(9'000'000);
  flip_byte(object.fixture.map_of(object.spec), 4096 + 50);
  CHECK(object.scrub().map_repaired);
  CHECK(object.fixture.store().stats().open_objects == 0);
}

TEST_CASE("a damaged page that a source has is dropped, and comes from there the next time") {
  Scrubbed object(9'000'000);
  const auto source = std::make_shared<ContentSource>(object.content);
  object.spec.source = source;
  const ObjectRef reader = object.fixture.store().attach(object.spec);
  // One extent's page map is known by then, as of one that is read now and then.
  REQUIRE(reads_as(*reader, object.content, 0, kPageSize));
  flip_byte(object.fixture.file_of(object.spec), 5 * kPageSize);
  CHECK(object.scrub().damaged_pages == 1);
  CHECK(object.fixture.store().stats().checksum_errors == 1);
  CHECK(reads_as(*reader, object.content, 0, 10 * kPageSize));
  CHECK(source->bytes == kPageSize);
  // The damage was known: the disk was not asked for that page again.
  CHECK(object.fixture.store().stats().checksum_errors == 1);
}

TEST_CASE("a scrub ends wherever it is told to") {
  Scrubbed object(9'000'000);
  uint64_t steps = 0;
  for (;; ++steps) {
    CountingControl control(steps);
    const auto result = object.fixture.store().scrub(object.spec, control);
    if (result.ok()) break;
    CHECK(absl::IsCancelled(result.status()));
    REQUIRE(steps < 1'000);
  }
  CHECK(steps > 9);
}

}  // namespace blobcache::page
