// What the store does about files that rot, vanish or lie.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {

TEST_CASE("a damaged page is an error for that page alone, never wrong bytes") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  flip_byte(fixture.file_of(spec), 10 * kPageSize + 100);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(9 * kPageSize, 3 * kPageSize).status()));
  CHECK(absl::IsDataLoss(object->read_wait(10 * kPageSize, 1).status()));
  CHECK(reads_as(*object, content, 9 * kPageSize, kPageSize));
  CHECK(reads_as(*object, content, 11 * kPageSize, kExtentSize));
  CHECK(fixture.store().stats().checksum_errors == 1);
  CHECK(fixture.store().stats().flights == 0);
  CHECK(object->residency()->disk_pages == page_count(content.size()) - 1);
}

TEST_CASE("a page that does not match is read once more before it is given up") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  flip_byte(fixture.file_of(spec), 10 * kPageSize + 100);
  const ObjectRef object = fixture.store().attach(spec);
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  CHECK(absl::IsDataLoss(object->read_wait(9 * kPageSize, 3 * kPageSize).status()));
  CHECK(fixture.store().stats().disk_read_bytes - before == 4 * kPageSize);
}

TEST_CASE("a place that the disk cannot read costs its page and no other") {
  constexpr uint64_t kBad = kExtentSize + 40 * kPageSize;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, [](const DiskStep& step) {
    const bool over_it = step.offset <= kBad && kBad < step.offset + step.bytes;
    return step.kind == DiskStep::Kind::kRead && over_it ? -EIO : 0;
  });
  const auto content = random_bytes(2U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  CHECK(absl::IsDataLoss(object->read_wait(kExtentSize, kExtentSize).status()));
  CHECK(reads_as(*object, content, kExtentSize, 40 * kPageSize));
  CHECK(absl::IsDataLoss(object->read_wait(kBad, 1).status()));
  CHECK(reads_as(*object, content, kBad + kPageSize, 23 * kPageSize));
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("a read that the kernel gives up because its thread ended is asked for again") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(300'000, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  faults.arm(DiskStep::Kind::kRead, 0, -EFAULT);
  CHECK(reads_whole(*object, content));
  CHECK(fixture.store().stats().disk_errors == 0);
}

TEST_CASE("page maps that are gone say nothing about the disk") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  for (uint8_t name = 0; name < 20; ++name) {
    const ObjectSpec spec = fixture.put(content, name);
    std::filesystem::remove(fixture.map_of(spec));
    CHECK(absl::IsDataLoss(fixture.store().attach(spec)->read_wait(0, 1).status()));
  }
  CHECK(fixture.store().stats().disk_errors == 0);
  CHECK_FALSE(fixture.store().stats().disk_out);
}

TEST_CASE("what a source brings in place of a damaged page must match the page map") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  for (const bool lies : {true, false}) {
    ObjectSpec spec = fixture.put(content, lies ? 1 : 2);
    flip_byte(fixture.file_of(spec), 10 * kPageSize + 100);
    auto brought = content;
    if (lies) brought[10 * kPageSize + 7] ^= std::byte{1};
    spec.source = std::make_shared<ContentSource>(brought);
    const ObjectRef object = fixture.store().attach(spec);
    CHECK(reads_as(*object, content, 9 * kPageSize, kPageSize));
    CHECK(reads_as(*object, content, 10 * kPageSize, kPageSize) == !lies);
    CHECK(reads_as(*object, content, 11 * kPageSize, kExtentSize));
    CHECK(fixture.store().stats().source_checksum_errors == 1);
  }
}

TEST_CASE("an object whose file is gone is DATA_LOSS, and on no disk") {
  for (const uint64_t size : {uint64_t{12U << 20}, uint64_t{300'000}}) {
    CAPTURE(size);
    Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
    const auto content = random_bytes(size, 1);
    const ObjectSpec spec = fixture.put(content, 1);
    std::filesystem::remove(fixture.file_of(spec));
    const ObjectRef object = fixture.store().attach(spec);
    CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
    CHECK(absl::IsDataLoss(object->read_wait(kExtentSize, 1).status()));
    const auto residency = object->residency();
    REQUIRE(residency.ok());
    CHECK(residency->pages == page_count(size));
    CHECK(residency->disk_pages == 0);
  }
}

TEST_CASE("a page of another place does not pass for this one") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  {
    // Page 3's bytes, checksum and all, at page 4's place: what a lost seek would write.
    std::fstream file(fixture.file_of(spec), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4 * kPageSize);
    file.write(reinterpret_cast<const char*>(content.data()) + 3 * kPageSize, kPageSize);
  }
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(4 * kPageSize, 1).status()));
  CHECK(reads_as(*object, content, 3 * kPageSize, kPageSize));
}

TEST_CASE("a file that is larger than its object is another's") {
  Fixture fixture;
  const auto content = random_bytes(300'000, 1);
  ObjectSpec spec = fixture.put(content, 1);
  std::filesystem::resize_file(fixture.file_of(spec), 400'000);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
}

TEST_CASE("a damaged page map is DATA_LOSS for a file that cannot be checked otherwise") {
  Fixture fixture;
  const auto content = random_bytes(12U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  flip_byte(fixture.map_of(spec), 4096 + 50);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(reads_as(*object, content, 4U << 20, kPageSize));  // another map block
  CHECK(fixture.store().stats().map_errors >= 1);
}

TEST_CASE("a damaged or missing page map is made again from a file that matches its key") {
  for (const uint64_t size : {uint64_t{12U << 20}, uint64_t{300'000}}) {
    CAPTURE(size);
    Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
    const auto content = random_bytes(size, 1);
    SumHash hash;
    hash.update(content);
    ObjectSpec spec = fixture.put(content, hash.finish());
    const bool has_map = spec.inline_map.empty();
    for (const bool missing : {false, true}) {
      if (has_map && missing) {
        std::filesystem::remove(fixture.map_of(spec));
      } else if (has_map) {
        flip_byte(fixture.map_of(spec), 4096 + 50);
      } else {
        spec.inline_map[missing ? 21 : 20] ^= 1;
      }
      fixture.reopen();
      const ObjectRef object = fixture.store().attach(spec);
      CHECK(reads_whole(*object, content));
      CHECK(fixture.store().stats().maps_rebuilt == 1);
      CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
    }
    if (!has_map) continue;
    // The new map is on the disk: the next start needs no repair.
    fixture.reopen();
    CHECK(reads_whole(*fixture.store().attach(spec), content));
    CHECK(fixture.store().stats().maps_rebuilt == 0);
  }
}

TEST_CASE("a repair that failed for want of room is tried again") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
  const auto content = random_bytes(5U << 20, 1);
  SumHash hash;
  hash.update(content);
  const ObjectSpec spec = fixture.put(content, hash.finish());
  flip_byte(fixture.map_of(spec), 4096 + 50);
  // A folder where the new map is to be written stands for whatever keeps it from being written.
  const auto in_the_way = fixture.path() / "tmp" / (spec.incarnation.hex() + ".map");
  std::filesystem::create_directory(in_the_way);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(!object->read_wait(0, 1).ok());
  std::filesystem::remove(in_the_way);
  CHECK(reads_whole(*object, content));
}

TEST_CASE("what is no regular file is no object's data, and holds nobody up") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  std::filesystem::remove(fixture.file_of(spec));
  REQUIRE(::mkfifo(fixture.file_of(spec).c_str(), 0600) == 0);
  CHECK(!fixture.store().attach(spec)->read_wait(0, 1).ok());
}

TEST_CASE("a page map is not made again from a file that does not match its key") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
  const auto content = random_bytes(12U << 20, 1);
  SumHash hash;
  hash.update(content);
  const ObjectSpec spec = fixture.put(content, hash.finish());
  flip_byte(fixture.map_of(spec), 4096 + 50);
  flip_byte(fixture.file_of(spec), 8U << 20);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(fixture.store().stats().maps_rebuilt == 0);
}

}  // namespace blobcache::page
