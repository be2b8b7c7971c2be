// Damage of each of a volume's files, and what does not belong together.

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kThreeBlocks = 3 * kBlockBytes;

void flip_byte(const fs::path& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
  REQUIRE(file.good());
}

absl::Status read_status(const VolumeFixture& fixture, uint64_t offset, uint64_t length = kPage) {
  Bytes bytes(length);
  return fixture.volume().read_wait(offset, absl::MakeSpan(bytes));
}

}  // namespace

TEST_CASE("a damaged page is an error, and never the base's") {
  TestBase base(random_bytes(kThreeBlocks, 1));
  VolumeFixture fixture(kThreeBlocks, &base);
  fixture.write(0, random_bytes(3 * kPage, 2));
  fixture.close_and_reopen();
  flip_byte(fixture.path() / "data", kPage + 17);
  CHECK(absl::IsDataLoss(read_status(fixture, kPage)));
  CHECK(absl::IsDataLoss(read_status(fixture, 0, 3 * kPage)));
  CHECK(absl::IsDataLoss(read_status(fixture, kPage + 2000, 1)));
  CHECK(absl::IsDataLoss(fixture.volume().write_wait(kPage + 3000, Bytes(10))));
  Bytes bytes(kPage);
  CHECK_FALSE(fixture.volume().try_read(kPage, absl::MakeSpan(bytes)));
  CHECK(fixture.volume().stats().damaged_pages == 4);
  CHECK(fixture.read(0, kPage) == random_bytes(kPage, 2));
  // A page that is written as a whole, or trimmed, is whole again.
  fixture.write(kPage, random_bytes(kPage, 3));
  CHECK(fixture.read(kPage, kPage) == random_bytes(kPage, 3));
}

TEST_CASE("after a power cut a page is doubtful only where something was being written") {
  VolumeFixture fixture(kThreeBlocks);
  fixture.write(0, random_bytes(kPage, 1));
  fixture.write(kBlockBytes, random_bytes(kPage, 2));
  fixture.close_and_reopen();
  fixture.write(kBlockBytes + kPage, random_bytes(kPage, 3), true);
  fixture.drop();
  flip_byte(fixture.path() / "data", 100);
  flip_byte(fixture.path() / "data", kBlockBytes + 100);
  fixture.options().boot_id = boot(2);
  fixture.reopen();
  CHECK(fixture.volume().stats().recovered);
  CHECK(fixture.volume().stats().rechecked_pages == 2);
  CHECK(absl::IsDataLoss(read_status(fixture, 0)));
  Bytes torn = random_bytes(kPage, 2);
  torn[100] ^= std::byte{0x40};
  CHECK(fixture.read(kBlockBytes, kPage) == torn);
  CHECK(fixture.read(kBlockBytes + kPage, kPage) == random_bytes(kPage, 3));
}

TEST_CASE("a damaged block of the map costs what it tells of") {
  for (const uint64_t copy : {0U, 1U}) {
    VolumeFixture fixture(kThreeBlocks);
    fixture.write(kBlockBytes, random_bytes(kPage, 1));
    fixture.write(2 * kBlockBytes, random_bytes(kPage, 2));
    fixture.close_and_reopen();
    fixture.write(kBlockBytes, random_bytes(kPage, 3));
    REQUIRE(fixture.volume().close().ok());
    flip_byte(fixture.path() / "map", (2 + copy) * kPage + 500);
    fixture.reopen();
    CHECK(absl::IsDataLoss(read_status(fixture, kBlockBytes)));
    CHECK(absl::IsDataLoss(fixture.volume().write_wait(kBlockBytes, Bytes(kPage))));
    CHECK(absl::IsDataLoss(fixture.volume().trim_wait(kBlockBytes, kPage)));
    CHECK(absl::IsDataLoss(fixture.volume().map_wait(kBlockBytes, kPage, 1).status()));
    CHECK(fixture.read(2 * kBlockBytes, kPage) == random_bytes(kPage, 2));
    CHECK(fixture.read(0, kPage) == Bytes(kPage));
  }
}

TEST_CASE("one copy of the header is enough") {
  VolumeFixture fixture(kThreeBlocks);
  fixture.write(0, random_bytes(kPage, 1));
  for (const uint64_t copy : {0U, 1U}) {
    REQUIRE(fixture.volume().close().ok());
    flip_byte(fixture.path() / "header", copy * kPage + 60);
    fixture.reopen();
    CHECK(fixture.read(0, kPage) == random_bytes(kPage, 1));
    // The next checkpoint writes both again.
    fixture.write(0, random_bytes(kPage, 1));
  }
  REQUIRE(fixture.volume().close().ok());
  fixture.drop();
  flip_byte(fixture.path() / "header", 60);
  flip_byte(fixture.path() / "header", kPage + 60);
  CHECK(absl::IsDataLoss(fixture.try_open()));
  CHECK(absl::IsDataLoss(Volume::describe(fixture.path()).status()));
  fs::resize_file(fixture.path() / "header", 0);
  CHECK(absl::IsDataLoss(fixture.try_open()));
  fs::remove(fixture.path() / "header");
  CHECK(absl::IsNotFound(fixture.try_open()));
}

TEST_CASE("a damaged journal is an error while it is needed") {
  VolumeFixture fixture(kThreeBlocks);
  for (uint64_t page = 0; page < 10; ++page) fixture.write(page * kPage, random_bytes(kPage, page));
  fixture.drop();
  flip_byte(fixture.path() / "journal", 32 * 5 + 9);
  CHECK(absl::IsDataLoss(fixture.try_open()));
  // After a power cut what was not synced may be missing, what was may not.
  fixture.options().boot_id = boot(2);
  fixture.reopen();
  CHECK(fixture.read(0, 10 * kPage) == Bytes(10 * kPage));
  for (uint64_t page = 0; page < 10; ++page) fixture.write(page * kPage, random_bytes(kPage, page));
  REQUIRE(fixture.volume().flush_wait().ok());
  fixture.write(kBlockBytes, random_bytes(kPage, 1));
  fixture.drop();
  // The records of the second round follow those of the first, whose numbers are not used again.
  flip_byte(fixture.path() / "journal", 32 * 18 + 9);
  fixture.options().boot_id = boot(3);
  CHECK(absl::IsDataLoss(fixture.try_open()));
  fs::resize_file(fixture.path() / "journal", 1000);
  CHECK(absl::IsDataLoss(fixture.try_open()));
}

TEST_CASE("files that are gone or too short") {
  VolumeFixture fixture(kThreeBlocks);
  fixture.write(0, random_bytes(kPage, 1));
  REQUIRE(fixture.volume().close().ok());
  fs::rename(fixture.path() / "map", fixture.path() / "gone");
  CHECK(absl::IsDataLoss(fixture.try_open()));
  fs::rename(fixture.path() / "gone", fixture.path() / "map");
  fs::resize_file(fixture.path() / "data", 100);
  fixture.reopen();
  CHECK(absl::IsDataLoss(read_status(fixture, 0)));
  CHECK(absl::IsDataLoss(fixture.volume().write_wait(1, Bytes(1))));
}

TEST_CASE("what does not belong together is refused") {
  TestBase base(random_bytes(kThreeBlocks, 1));
  VolumeFixture fixture(kThreeBlocks, &base);
  CHECK(absl::IsFailedPrecondition(Volume::open(fixture.options()).status()));  // in use
  CHECK(absl::IsAlreadyExists(Volume::create(fixture.options(), kThreeBlocks).status()));
  fixture.drop();
  fixture.options().base = nullptr;
  CHECK(absl::IsFailedPrecondition(fixture.try_open()));
  TestBase shorter(random_bytes(kThreeBlocks - 1, 1));
  fixture.options().base = shorter.object();
  CHECK(absl::IsFailedPrecondition(fixture.try_open()));
  fixture.options().base = base.object();
  fixture.reopen();
  const auto description = Volume::describe(fixture.path());
  REQUIRE(description.ok());
  CHECK(description->has_base);
  CHECK(description->base == base.object()->key());
  CHECK(description->size_bytes == kThreeBlocks);
  CHECK(absl::IsInvalidArgument(Volume::create(fixture.options(), 0).status()));
  VolumeOptions options = fixture.options();
  options.workers = nullptr;
  CHECK(absl::IsInvalidArgument(Volume::open(options).status()));
}

}  // namespace blobcache::volume
