// What sources bring stays on disk: through restarts, damage, faults and pressure.

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "store/page/page_map.h"
#include "store/page/page_store.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
TEST_CASE("what a source brought is read from disk after a restart") {
  Fixture fixture(kMemory);
  const Remote remote(5 * kExtentSize + 1234, 1);
  const auto size = static_cast<int64_t>(remote.content().size());
  CHECK(remote.read_all(fixture.store()) == size);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
  CHECK(fixture.store().stats().checksum_errors == 0);
  CHECK(std::filesystem::file_size(fixture.cached_file_of(remote.key)) == remote.content().size());
}

TEST_CASE("what memory gave up is read from disk, not from the source") {
  Fixture fixture(kMemory);
  const Remote remote(3 * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  fixture.store().evict_memory(*remote.attach(fixture.store()));
  CHECK(remote.read_all(fixture.store()) == 0);
  CHECK(fixture.store().stats().disk_hit_pages == 3 * kPagesPerExtent);
}

TEST_CASE("a page of a large object costs a page: of the source, of the disk") {
  Fixture fixture(kMemory);
  // Zeros but for a page, so that the content of 1 GiB is cheap.
  std::vector<std::byte> content(uint64_t{1} << 30);
  const uint64_t at = (uint64_t{700} << 20) + 5 * kPageSize;
  std::ranges::fill(std::span(content).subspan(at, kPageSize), std::byte{7});
  const Remote remote(std::move(content), 1);
  CHECK(remote.read(fixture.store(), at + 10, 100) == static_cast<int64_t>(kPageSize));
  fixture.store().wait_cached();
  const Stats stats = fixture.store().stats();
  CHECK(stats.fill_bytes == kPageSize);
  CHECK(stats.disk_filled_extents == 1);
  // The page, a map block, and the map's header.
  CHECK(stats.disk_filled_bytes == kPageSize + 2 * kMapBlockSize);
  CHECK(blocks_of(fixture.cached_file_of(remote.key)) == kPageSize);
  CHECK(blocks_of(fixture.cached_map_of(remote.key)) == 2 * kMapBlockSize);
}

TEST_CASE("pages of zeros take no disk") {
  Fixture fixture(kMemory);
  std::vector<std::byte> content(kExtentSize);
  content[3 * kPageSize] = std::byte{1};
  const Remote remote(std::move(content), 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().fill_bytes == kPageSize);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("the disk takes no more than its budget, whatever passes through it") {
  constexpr uint64_t kBudget = uint64_t{6} << 20;
  Fixture fixture(kMemory, kBudget);
  std::vector<Remote> remotes;
  for (uint8_t name = 1; name <= 12; ++name) remotes.emplace_back(uint64_t{2} << 20, name);
  for (const Remote& remote : remotes) {
    REQUIRE(remote.read_all(fixture.store()) >= 0);
    CHECK(fixture.store().stats().disk_used_bytes <= kBudget);
    fixture.store().wait_cached();
    CHECK(Fixture::data_under(fixture.path() / "cache") <= kBudget);
  }
  const Stats stats = fixture.store().stats();
  CHECK(stats.disk_evicted_bytes > 0);
  CHECK(stats.disk_filled_bytes > kBudget / 2);
  CHECK(stats.disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  for (const Remote& remote : remotes) CHECK(remote.read_all(fixture.store()) >= 0);
  CHECK(fixture.store().stats().checksum_errors == 0);
}

TEST_CASE("an object of which nothing is left on disk has no files there") {
  Fixture fixture(kMemory);
  const Remote remote(kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  CHECK(Fixture::files_under(fixture.path() / "cache") == 2);
  fixture.store().forget_cached(remote.key);
  CHECK(Fixture::files_under(fixture.path() / "cache") == 0);
  CHECK(fixture.store().stats().disk_used_bytes == 0);
  CHECK(remote.read_all(fixture.store()) > 0);
}

TEST_CASE("forgetting an object that is in use leaves its reader whole") {
  Fixture fixture(kMemory);
  const Remote remote(3 * kExtentSize, 1);
  ObjectRef held = remote.attach(fixture.store());
  CHECK(reads_whole(*held, remote.content()));
  fixture.store().wait_cached();
  fixture.store().forget_cached(remote.key);
  CHECK(fixture.store().stats().disk_filled_extents == 0);
  fixture.store().evict_memory(*held);
  CHECK(reads_whole(*held, remote.content()));
  held.reset();
  fixture.store().wait_cached();
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("a scan passes by what is read again and again") {
  constexpr uint64_t kBudget = uint64_t{16} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote hot(uint64_t{4} << 20, 1);
  for (int round = 0; round < 4; ++round) {
    REQUIRE(hot.read_all(fixture.store()) >= 0);
    fixture.store().wait_cached();
    fixture.store().evict_memory(*hot.attach(fixture.store()));
  }
  // Eight times the disk.
  for (uint8_t name = 2; name < 34; ++name) {
    const Remote scanned(uint64_t{4} << 20, name);
    REQUIRE(scanned.read_all(fixture.store()) > 0);
    fixture.store().wait_cached();
    fixture.store().evict_memory(*scanned.attach(fixture.store()));
  }
  CHECK(hot.read_all(fixture.store()) < (1 << 20));
}

TEST_CASE("what is put to be kept makes cached pages go, not the other way round") {
  constexpr uint64_t kBudget = uint64_t{8} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote remote(uint64_t{7} << 20, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  const std::vector<std::byte> content = random_bytes(uint64_t{6} << 20, 77);
  const ObjectSpec kept = fixture.put(content, 2);
  CHECK(fixture.store().stats().disk_used_bytes <= kBudget);
  CHECK(remote.read_all(fixture.store()) >= 0);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_used_bytes <= kBudget);
  CHECK(reads_whole(*fixture.store().attach(kept), content));
}

TEST_CASE("pinned objects stay on disk") {
  constexpr uint64_t kBudget = uint64_t{8} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote pinned(uint64_t{2} << 20, 1);
  fixture.store().pin_cached(pinned.key, true);
  CHECK(pinned.read_all(fixture.store()) > 0);
  for (uint8_t name = 2; name < 12; ++name) {
    const Remote other(uint64_t{4} << 20, name);
    REQUIRE(other.read_all(fixture.store()) >= 0);
    fixture.store().wait_cached();
  }
  fixture.store().evict_memory(*pinned.attach(fixture.store()));
  CHECK(pinned.read_all(fixture.store()) == 0);
}

TEST_CASE("however much is pinned, the rest makes room") {
  constexpr uint64_t kBudget = uint64_t{8} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote pinned(uint64_t{5} << 20, 1);
  fixture.store().pin_cached(pinned.key, true);
  CHECK(pinned.read_all(fixture.store()) > 0);
  const Remote other(uint64_t{2} << 20, 2);
  CHECK(other.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  const std::vector<std::byte> content = random_bytes(uint64_t{2} << 20, 77);
  CHECK(reads_whole(*fixture.store().attach(fixture.put(content, 3)), content));
  // And once it is unpinned, it goes as any other.
  fixture.store().pin_cached(pinned.key, false);
  fixture.put(random_bytes(uint64_t{5} << 20, 78), 4);
  CHECK(fixture.store().stats().disk_used_bytes <= kBudget);
}

TEST_CASE("a map that could not be written is written with what is brought again") {
  Faults faults;
  Fixture fixture(kMemory, 1U << 30, nullptr, faults.hook());
  const Remote remote(kExtentSize, 1);
  faults.arm(DiskStep::Kind::kWrite, 1, -EIO);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  faults.disarm();
  fixture.store().evict_memory(*remote.attach(fixture.store()));
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("a cache folder that is something else is passed over") {
  Fixture fixture(kMemory);
  fixture.close();
  std::filesystem::create_symlink("ab", fixture.path() / "cache" / "ab");
  std::filesystem::create_directory(fixture.path() / "tmp" / "folder");
  std::filesystem::remove(fixture.path() / "objects" / "62");
  fixture.reopen();
  const Remote remote(kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  const std::vector<std::byte> content = random_bytes(5000, 1);
  CHECK(reads_whole(*fixture.store().attach(fixture.put(content, 0x62)), content));
}

TEST_CASE("a damaged page is fetched again, once") {
  Fixture fixture(kMemory);
  const Remote remote(2 * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.close();
  flip_byte(fixture.cached_file_of(remote.key), 3 * kPageSize + 17);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == static_cast<int64_t>(kPageSize));
  CHECK(fixture.store().stats().checksum_errors == 1);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
  CHECK(fixture.store().stats().checksum_errors == 0);
}

TEST_CASE("a damaged map block costs what it tells of, and no more") {
  Fixture fixture(kMemory);
  const Remote remote(2 * kExtentsPerMapBlock * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.close();
  flip_byte(fixture.cached_map_of(remote.key), map_block_offset(1) + 100);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) ==
        static_cast<int64_t>(kExtentsPerMapBlock * kExtentSize));
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().map_errors == 1);
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("a damaged header costs the object its cache") {
  Fixture fixture(kMemory);
  const Remote remote(2 * kExtentSize, 1);
  const auto size = static_cast<int64_t>(remote.content().size());
  CHECK(remote.read_all(fixture.store()) == size);
  fixture.close();
  flip_byte(fixture.cached_map_of(remote.key), 20);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == size);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("files that are gone, cut or foreign do no harm") {
  Fixture fixture(kMemory);
  const Remote remote(2 * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.close();
  SUBCASE("no data") { std::filesystem::remove(fixture.cached_file_of(remote.key)); }
  SUBCASE("no map") { std::filesystem::remove(fixture.cached_map_of(remote.key)); }
  SUBCASE("cut data") { std::filesystem::resize_file(fixture.cached_file_of(remote.key), 5000); }
  SUBCASE("cut map") { std::filesystem::resize_file(fixture.cached_map_of(remote.key), 5000); }
  SUBCASE("longer data") {
    std::filesystem::resize_file(fixture.cached_file_of(remote.key), 8 * kExtentSize);
  }
  SUBCASE("another object's map") {
    const Remote other(2 * kExtentSize, 2);
    fixture.reopen();
    CHECK(other.read_all(fixture.store()) > 0);
    fixture.close();
    std::filesystem::rename(fixture.cached_map_of(other.key), fixture.cached_map_of(remote.key));
  }
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) >= 0);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) == 0);
}

TEST_CASE("what a kill left between data and map is given back") {
  Fixture fixture(kMemory);
  const Remote remote(4 * kExtentSize, 1);
  CHECK(remote.read(fixture.store(), 0, kExtentSize) > 0);
  fixture.close();
  {
    std::fstream file(fixture.cached_file_of(remote.key),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2 * kExtentSize + 8 * kPageSize);
    const std::vector<char> left(5 * kPageSize, 'x');
    file.write(left.data(), static_cast<std::streamsize>(left.size()));
  }
  CHECK(blocks_of(fixture.cached_file_of(remote.key)) == kExtentSize + 5 * kPageSize);
  fixture.reopen();
  fixture.store().wait_cached();
  CHECK(blocks_of(fixture.cached_file_of(remote.key)) == kExtentSize);
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));
  CHECK(remote.read(fixture.store(), 0, kExtentSize) == 0);
}

TEST_CASE("reads go on when the disk does not take what comes") {
  Faults faults;
  Fixture fixture(kMemory, 1U << 30, nullptr, faults.hook());
  const Remote remote(4 * kExtentSize, 1);
  SUBCASE("no space") { faults.arm(DiskStep::Kind::kWrite, 0, -ENOSPC, /*from_there_on=*/true); }
  SUBCASE("an error now and then") { faults.arm(DiskStep::Kind::kWrite, 1, -EIO); }
  SUBCASE("a disk that writes no more") {
    faults.arm(DiskStep::Kind::kWrite, 0, -EIO, /*from_there_on=*/true);
  }
  SUBCASE("short writes") { faults.arm(DiskStep::Kind::kWrite, 0, kPageSize); }
  for (uint64_t at = 0; at < remote.content().size(); at += kExtentSize) {
    CHECK(remote.read(fixture.store(), at, kExtentSize) == static_cast<int64_t>(kExtentSize));
    fixture.store().wait_cached();
  }
  faults.disarm();
  fixture.store().evict_memory(*remote.attach(fixture.store()));
  CHECK(remote.read_all(fixture.store()) >= 0);
  fixture.reopen();
  CHECK(remote.read_all(fixture.store()) >= 0);
  CHECK(fixture.store().stats().checksum_errors == 0);
  CHECK(fixture.store().stats().disk_used_bytes <= Fixture::data_under(fixture.path() / "cache"));
}

TEST_CASE("a file system that gives no part of a file back keeps nothing of what sources bring") {
  Faults faults;
  Fixture fixture(kMemory, 1U << 30, nullptr, faults.hook());
  faults.arm(DiskStep::Kind::kPunchHole, 0, -EOPNOTSUPP, /*from_there_on=*/true);
  fixture.reopen();
  const Remote remote(2 * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) == static_cast<int64_t>(2 * kExtentSize));
  fixture.store().wait_cached();
  CHECK(Fixture::files_under(fixture.path() / "cache") == 0);
  CHECK(fixture.store().stats().fill_dropped_bytes == 2 * kExtentSize);
  const std::vector<std::byte> content = random_bytes(5000, 1);
  CHECK(reads_whole(*fixture.store().attach(fixture.put(content, 0x62)), content));
}

TEST_CASE("blocks that cannot be given back stay counted, until they can") {
  Faults faults;
  Fixture fixture(kMemory, 1U << 30, nullptr, faults.hook());
  const Remote remote(2 * kExtentSize, 1);
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  const uint64_t before = fixture.store().stats().disk_used_bytes;
  // The first hole is the map block's.
  faults.arm(DiskStep::Kind::kPunchHole, 1, -EIO, /*from_there_on=*/true);
  fixture.store().forget_cached(remote.key);
  CHECK(fixture.store().stats().disk_used_bytes == before);
  CHECK(fixture.store().stats().disk_used_bytes >= Fixture::data_under(fixture.path() / "cache"));
  faults.disarm();
  fixture.store().forget_cached(remote.key);
  CHECK(fixture.store().stats().disk_used_bytes == 0);
  CHECK(Fixture::data_under(fixture.path() / "cache") == 0);
  fixture.store().evict_memory(*remote.attach(fixture.store()));
  CHECK(remote.read_all(fixture.store()) == static_cast<int64_t>(2 * kExtentSize));
}

}  // namespace blobcache::page
