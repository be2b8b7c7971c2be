// File volumes: their length, what they cost, and what is different from images.

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "base/status.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/journal.h"
#include "test/store/page/disk_faults.h"
#include "test/store/volume/file_load.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;
using FileStep = page::DiskStep::Kind;

int syncs_of(const page::Faults& faults) {
  return faults.counts[static_cast<size_t>(FileStep::kSync)].load();
}

bool only_zeros(const Bytes& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{}; });
}

Bytes joined(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

uint64_t space_of(const fs::path& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

void flip(const fs::path& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
  REQUIRE(file.good());
}

}  // namespace

TEST_CASE("a file grows with what is written, and shows zeros between") {
  VolumeFixture fixture(FileSpec{});
  CHECK(fixture.volume().size_bytes() == 0);
  CHECK(fixture.volume().description().is_file);
  const Bytes bytes = random_bytes(100, 1);
  fixture.write(0, bytes);
  CHECK(fixture.volume().size_bytes() == 100);
  fixture.write(10000, bytes);
  CHECK(fixture.volume().size_bytes() == 10100);
  CHECK(fixture.read_all() == joined(joined(bytes, Bytes(9900)), bytes));
  // Nothing was written, whatever the place.
  fixture.write(20000, {});
  CHECK(fixture.volume().size_bytes() == 10100);
  Bytes into(10);
  CHECK(absl::IsOutOfRange(fixture.volume().read_wait(10095, absl::MakeSpan(into))));
  CHECK(absl::IsOutOfRange(fixture.volume().map_wait(0, 10101, 10).status()));
}

TEST_CASE("a file ends at 8 TiB") {
  VolumeFixture fixture(FileSpec{});
  Volume& volume = fixture.volume();
  const Bytes bytes = random_bytes(100, 1);
  fixture.write(Volume::kMaxFileLength - 100, bytes);
  CHECK(volume.size_bytes() == Volume::kMaxFileLength);
  CHECK(fixture.read(Volume::kMaxFileLength - 200, 200) == joined(Bytes(100), bytes));
  for (const absl::Status& status :
       {volume.write_wait(Volume::kMaxFileLength - 99, bytes),
        volume.write_wait(~uint64_t{0}, bytes), volume.set_length_wait(Volume::kMaxFileLength + 1),
        volume.write_zeroes_wait(1, Volume::kMaxFileLength)}) {
    CHECK(absl::IsOutOfRange(status));
    CHECK(base::posix_errno_of(status) == EFBIG);
  }
  fixture.close_and_reopen();
  CHECK(fixture.read(Volume::kMaxFileLength - 100, 100) == bytes);
  REQUIRE(fixture.volume().set_length_wait(0).ok());
  CHECK(fixture.volume().stats().data_bytes == 0);
}

TEST_CASE("what was cut off never shows again, and its space is given back") {
  TestBase base(random_bytes(100000, 1));
  SpaceBudget budget;
  VolumeFixture fixture(FileSpec{.length = 100000, .base = &base, .budget = &budget});
  Volume& volume = fixture.volume();
  fixture.write(40000, random_bytes(30000, 2));
  CHECK(budget.used_bytes() == 9 * kPage);
  const Bytes before = fixture.read_all();
  REQUIRE(volume.set_length_wait(45678).ok());
  CHECK(budget.used_bytes() == 3 * kPage);
  REQUIRE(volume.flush_wait().ok());
  CHECK(space_of(fixture.path() / "data") <= 4 * kPage);
  REQUIRE(volume.set_length_wait(100000).ok());
  const Bytes expected =
      joined(Bytes(before.begin(), before.begin() + 45678), Bytes(100000 - 45678));
  CHECK(fixture.read_all() == expected);
  // In the middle of a page of the base; and then a write beside what was cut off.
  REQUIRE(volume.set_length_wait(5000).ok());
  fixture.write(6000, random_bytes(10, 3));
  CHECK(only_zeros(fixture.read(5000, 1000)));
  CHECK(fixture.read(0, 5000) == Bytes(before.begin(), before.begin() + 5000));
  fixture.reopen();
  CHECK(only_zeros(fixture.read(5000, 1000)));
  CHECK(fixture.volume().description().base_bytes == 5000);
}

TEST_CASE("zeros beyond the end make the file longer unless they keep its size") {
  VolumeFixture fixture(FileSpec{});
  Volume& volume = fixture.volume();
  fixture.write(0, random_bytes(5000, 1));
  REQUIRE(volume.write_zeroes_wait(4000, 10000, {.fua = false, .no_hole = false, .keep_size = true})
              .ok());
  CHECK(volume.size_bytes() == 5000);
  REQUIRE(volume.trim_wait(6000, 10000).ok());
  CHECK(volume.size_bytes() == 5000);
  REQUIRE(volume.write_zeroes_wait(4500, 10000, {.fua = false, .no_hole = true, .keep_size = true})
              .ok());
  CHECK(volume.size_bytes() == 5000);
  REQUIRE(volume.write_zeroes_wait(4096, 100000).ok());
  CHECK(volume.size_bytes() == 104096);
  // The page in which the file ended was made zero in part.
  CHECK(volume.stats().data_bytes == 2 * kPage);
  REQUIRE(volume.write_zeroes_wait(104000, 5000, {.fua = false, .no_hole = true}).ok());
  CHECK(volume.size_bytes() == 109000);
  CHECK(volume.stats().data_bytes == 4 * kPage);
  Bytes head = random_bytes(5000, 1);
  head.resize(4000);
  CHECK(fixture.read(0, 4000) == head);
  CHECK(only_zeros(fixture.read(4000, 105000)));
}

TEST_CASE("a length is a file's alone, and growing an image's") {
  VolumeFixture image(10000);
  CHECK(absl::IsFailedPrecondition(image.volume().set_length_wait(20000)));
  CHECK_FALSE(image.volume().description().is_file);
  VolumeFixture file(FileSpec{.length = 10000});
  CHECK(absl::IsFailedPrecondition(file.volume().grow(20000)));
  CHECK(absl::IsAlreadyExists(Volume::create_file(file.options(), 1).status()));
  CHECK(
      absl::IsOutOfRange(Volume::create_file(file.options(), Volume::kMaxFileLength + 1).status()));
}

TEST_CASE("a file is made and written to without a sync, and its first flush makes four") {
  page::Faults faults;
  VolumeFixture fixture(FileSpec{.fault = faults.hook()});
  fixture.write(0, random_bytes(10000, 1));
  REQUIRE(fixture.volume().set_length_wait(9000).ok());
  CHECK(syncs_of(faults) == 0);
  REQUIRE(fixture.volume().flush_wait().ok());
  // The data; header and journal, which are one file; the folder, and its name.
  CHECK(syncs_of(faults) == 4);
  REQUIRE(fixture.volume().flush_wait().ok());
  CHECK(syncs_of(faults) == 4);
  fixture.write(9000, random_bytes(10, 2));
  REQUIRE(fixture.volume().flush_wait().ok());
  CHECK(syncs_of(faults) == 6);
  fixture.write(0, random_bytes(10, 2));
  REQUIRE(fixture.volume().flush_wait().ok());
  CHECK(syncs_of(faults) == 7);
}

TEST_CASE("a file without a folder takes a step and a sync less, and leaves nothing") {
  page::Faults faults;
  VolumeFixture fixture(FileSpec{.fault = faults.hook(), .in_folder = false});
  fixture.write(0, random_bytes(3000, 1));
  int steps = 0;
  for (const std::atomic<int>& count : faults.counts) steps += count.load();
  CHECK(steps == 5);
  REQUIRE(fixture.volume().flush_wait().ok());
  CHECK(syncs_of(faults) == 3);
  fixture.close_and_reopen();
  CHECK(fs::exists(fixture.file("map")));
  CHECK(Volume::describe(fixture.path())->size_bytes == 3000);
  CHECK(fixture.read_all() == random_bytes(3000, 1));
  CHECK(fixture.volume().cut().ok());
  CHECK(absl::IsAlreadyExists(Volume::create_file(fixture.options(), 1).status()));
  fixture.volume().abandon();
  REQUIRE(Volume::remove_file(fixture.options()).ok());
  CHECK(fs::is_empty(fixture.path().parent_path()));
  CHECK(Volume::remove_file(fixture.options()).ok());
  CHECK(absl::IsNotFound(fixture.try_open()));
  // With a folder it goes, too.
  VolumeFixture other(FileSpec{});
  other.volume().abandon();
  REQUIRE(Volume::remove_file(other.options()).ok());
  CHECK_FALSE(fs::exists(other.path()));
}

TEST_CASE("a small file costs four files' steps, and what is abandoned nothing more") {
  page::Faults faults;
  SpaceBudget budget;
  VolumeFixture fixture(FileSpec{.fault = faults.hook(), .budget = &budget});
  fixture.write(0, random_bytes(3000, 1));
  int steps = 0;
  for (const std::atomic<int>& count : faults.counts) steps += count.load();
  // The folder, header and data, the header's copy; the page, and its state with the length.
  CHECK(steps == 6);
  CHECK(budget.used_bytes() == kPage);
  fixture.volume().abandon();
  CHECK(budget.used_bytes() == 0);
  CHECK(absl::IsFailedPrecondition(fixture.volume().write_wait(0, Bytes(1))));
  CHECK(absl::IsFailedPrecondition(fixture.volume().set_length_wait(0)));
  CHECK(absl::IsFailedPrecondition(fixture.volume().flush_wait()));
  int after = 0;
  for (const std::atomic<int>& count : faults.counts) after += count.load();
  CHECK(after == steps);
  // As a kill leaves it.
  fixture.reopen();
  CHECK(fixture.read_all() == random_bytes(3000, 1));
}

TEST_CASE("parts of pages are written on the calling thread") {
  VolumeFixture fixture(FileSpec{});
  Bytes content;
  for (uint64_t i = 0; i < 300; ++i) {
    const Bytes bytes = random_bytes(100, i);
    fixture.write(i * 100, bytes);
    content = joined(content, bytes);
  }
  fixture.write(5000, random_bytes(1000, 5));
  fixture.write(40000, random_bytes(10, 6));
  REQUIRE(fixture.volume().set_length_wait(30000).ok());
  fixture.write(123, {});
  REQUIRE(fixture.volume().set_length_wait(30000).ok());
  const Bytes patch = random_bytes(1000, 5);
  std::copy(patch.begin(), patch.end(), content.begin() + 5000);
  CHECK(fixture.volume().stats().waits == 0);
  CHECK(fixture.read_all() == content);
  // So with an image's, where the page is its own.
  VolumeFixture image(100000);
  image.write(0, Bytes(2 * kPage, std::byte{1}));
  const uint64_t waits = image.volume().stats().waits;
  image.write(100, random_bytes(50, 1));
  CHECK(image.volume().stats().waits == waits);
  CHECK(image.read(100, 50) == random_bytes(50, 1));
}

TEST_CASE("the length survives a kill, and is exact after close") {
  VolumeFixture fixture(FileSpec{});
  fixture.write(0, random_bytes(5000, 1));
  REQUIRE(fixture.volume().set_length_wait(4000).ok());
  fixture.write(4100, random_bytes(1, 2));
  fixture.reopen();
  CHECK(fixture.volume().size_bytes() == 4101);
  CHECK(fixture.volume().stats().recovered);
  CHECK(only_zeros(fixture.read(4000, 100)));
  fixture.write(6000, random_bytes(1, 2));
  REQUIRE(fixture.volume().close().ok());
  const auto description = Volume::describe(fixture.path());
  REQUIRE(description.ok());
  CHECK(description->is_file);
  CHECK(description->size_bytes == 6001);
  CHECK(description->data_bytes == 2 * kPage);
}

TEST_CASE("a file that was closed has no doubtful page, whatever the boot; one that was cut has") {
  VolumeFixture fixture(FileSpec{});
  fixture.write(0, random_bytes(3 * kPage, 1));
  fixture.write(kBlockBytes, random_bytes(kPage, 2));
  REQUIRE(fixture.volume().close().ok());
  flip(fixture.path() / "data", 100);
  fixture.options().boot_id = boot(2);
  fixture.reopen();
  CHECK(fixture.volume().stats().rechecked_pages == 0);
  Bytes into(kPage);
  CHECK(absl::IsDataLoss(fixture.volume().read_wait(0, absl::MakeSpan(into))));
  CHECK(absl::IsDataLoss(fixture.volume().write_wait(50, Bytes(10))));
  fixture.write(0, random_bytes(kPage, 3));
  REQUIRE(fixture.volume().flush_wait().ok());
  fixture.options().boot_id = boot(3);
  fixture.reopen();
  CHECK(fixture.volume().stats().rechecked_pages == 4);
  CHECK(fixture.read(0, kPage) == random_bytes(kPage, 3));
}

TEST_CASE("after a power cut states and the length are as of the last flush") {
  VolumeFixture fixture(FileSpec{});
  fixture.write(0, random_bytes(5000, 1));
  REQUIRE(fixture.volume().flush_wait().ok());
  fixture.write(5000, random_bytes(5000, 2));
  fixture.options().boot_id = boot(2);
  fixture.reopen();
  CHECK(fixture.read_all() == random_bytes(5000, 1));
  // What lay beyond the end in the last page is gone.
  REQUIRE(fixture.volume().set_length_wait(9000).ok());
  CHECK(only_zeros(fixture.read(5000, 4000)));
}

TEST_CASE("what is damaged in a file's folder is told") {
  SUBCASE("the header") {
    VolumeFixture fixture(FileSpec{});
    fixture.write(0, random_bytes(100, 1));
    flip(fixture.path() / "header", 50);
    CHECK(absl::IsDataLoss(fixture.try_open()));
  }
  SUBCASE("the journal") {
    VolumeFixture fixture(FileSpec{});
    fixture.write(0, random_bytes(100, 1));
    fixture.write(kPage, random_bytes(100, 1));
    flip(fixture.path() / "header", kHeaderFileBytes + kRecordSize + 5);
    CHECK(absl::IsDataLoss(fixture.try_open()));
  }
  SUBCASE("a map that is gone") {
    VolumeFixture fixture(FileSpec{});
    fixture.write(0, random_bytes(100, 1));
    REQUIRE(fixture.volume().close().ok());
    fs::remove(fixture.path() / "map");
    CHECK(absl::IsDataLoss(fixture.try_open()));
  }
  SUBCASE("data that is gone, or short") {
    VolumeFixture fixture(FileSpec{});
    fixture.write(0, random_bytes(2 * kPage, 1));
    REQUIRE(fixture.volume().close().ok());
    fs::resize_file(fixture.path() / "data", kPage + 10);
    REQUIRE(fixture.try_open().ok());
    Bytes into(kPage);
    CHECK(absl::IsDataLoss(fixture.volume().read_wait(kPage, absl::MakeSpan(into))));
    fs::remove(fixture.path() / "data");
    CHECK(absl::IsDataLoss(fixture.try_open()));
  }
}

TEST_CASE("a cut has the length of its moment") {
  TestBase base(random_bytes(50000, 1));
  VolumeFixture fixture(FileSpec{.length = 50000, .base = &base});
  fixture.write(10000, random_bytes(20000, 2));
  const Bytes then = fixture.read_all();
  const auto cut = fixture.volume().cut();
  REQUIRE(cut.ok());
  REQUIRE(fixture.volume().set_length_wait(3000).ok());
  fixture.write(60000, random_bytes(100, 3));
  CHECK((*cut)->size_bytes() == 50000);
  Bytes seen(50000);
  REQUIRE((*cut)->read_wait(0, absl::MakeSpan(seen)).ok());
  CHECK(seen == then);
  const auto runs = (*cut)->map_wait(0, 50000, 10);
  REQUIRE(runs.ok());
  CHECK(runs->size() == 3);
}

TEST_CASE("a file's header is of version 2, an image's of version 1") {
  Header header;
  header.size_bytes = 10;
  HeaderBytes bytes = encode_header(header, 1);
  CHECK(bytes[12] == std::byte{1});
  uint64_t sequence = 0;
  CHECK(decode_header(bytes, sequence).value() == header);
  header.is_file = 1;
  header.is_stale = 1;
  header.size_bytes = 0;
  bytes = encode_header(header, 1);
  CHECK(bytes[12] == std::byte{2});
  CHECK(decode_header(bytes, sequence).value() == header);
  header.size_bytes = Volume::kMaxFileLength + 1;
  CHECK(absl::IsDataLoss(decode_header(encode_header(header, 1), sequence).status()));
}

}  // namespace blobcache::volume
