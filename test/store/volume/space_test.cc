// Zeros, trims, what they give back, what the map tells of them, and budgets.

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "store/volume/space_budget.h"
#include "test/eventually.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

using Kind = Run::Kind;

uint64_t blocks_of(const std::filesystem::path& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

bool is_zero(const Bytes& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{}; });
}

}  // namespace

TEST_CASE("the map tells data, zeros and the base apart") {
  TestBase base(random_bytes(40 * kPage, 1));
  VolumeFixture fixture(60 * kPage, &base);
  fixture.write(2 * kPage, random_bytes(3 * kPage, 2));
  REQUIRE(fixture.volume().trim_wait(4 * kPage, 4 * kPage).ok());
  const std::vector<Run> expected = {{2 * kPage, Kind::kBase},
                                     {2 * kPage, Kind::kData},
                                     {4 * kPage, Kind::kZero},
                                     {32 * kPage, Kind::kBase},
                                     {20 * kPage, Kind::kZero}};
  CHECK(fixture.map(0, 60 * kPage) == expected);
  CHECK(fixture.map(100, 10) == std::vector<Run>{{10, Kind::kBase}});
  CHECK(fixture.map(2 * kPage + 1, 3 * kPage, 1) == std::vector<Run>{{2 * kPage - 1, Kind::kData}});
  CHECK(fixture.map(0, 0).empty());
  fixture.close_and_reopen();
  CHECK(fixture.map(0, 60 * kPage) == expected);
}

TEST_CASE("zeros of the base that nothing stores are told as zeros once the base knows of them") {
  Bytes content = random_bytes(64 * kPage, 1);
  std::fill_n(content.begin() + 8 * kPage, 16 * kPage, std::byte{});
  content.resize(80 * kPage + 100);  // its end is a hole, too
  TestBase base(std::move(content));
  VolumeFixture fixture(100 * kPage, &base);
  fixture.write(12 * kPage, random_bytes(kPage, 2));
  // A source has not told which of its bytes are zeros before it has brought them.
  CHECK(fixture.map(0, 8 * kPage) == std::vector<Run>{{8 * kPage, Kind::kBase}});
  (void)fixture.read_all();
  const std::vector<Run> expected = {{8 * kPage, Kind::kBase},  {4 * kPage, Kind::kZero},
                                     {kPage, Kind::kData},      {11 * kPage, Kind::kZero},
                                     {40 * kPage, Kind::kBase}, {36 * kPage, Kind::kZero}};
  // It is the disk's copy that knows of them, which is made when it is convenient.
  CHECK(test::eventually([&] { return fixture.map(0, 100 * kPage) == expected; }));
  CHECK(fixture.map(10 * kPage + 5, 10, 1) == std::vector<Run>{{10, Kind::kZero}});
  // What a copy of a cut is made from tells of the volume alone.
  const auto cut = fixture.volume().cut();
  REQUIRE(cut.ok());
  CHECK((*cut)->map_wait(0, 12 * kPage, 10).value() == std::vector<Run>{{12 * kPage, Kind::kBase}});
}

TEST_CASE("what is trimmed gives its space back, also after a kill or a clean end") {
  SpaceBudget budget;
  VolumeFixture fixture(uint64_t{8} << 20, nullptr, nullptr, &budget);
  fixture.write(0, random_bytes(4 << 20, 1));
  REQUIRE(fixture.volume().flush_wait().ok());
  CHECK(blocks_of(fixture.path() / "data") >= 4U << 20);
  CHECK(budget.used_bytes() == 4U << 20);
  REQUIRE(fixture.volume().trim_wait(kPage, (4 << 20) - 2 * kPage, true).ok());
  CHECK(blocks_of(fixture.path() / "data") <= 16 * kPage);
  CHECK(budget.used_bytes() == 2 * kPage);
  CHECK(fixture.volume().stats().data_bytes == 2 * kPage);
  CHECK(is_zero(fixture.read(kPage, (4 << 20) - 2 * kPage)));
  fixture.reopen();
  CHECK(budget.used_bytes() == 2 * kPage);
  fixture.close_and_reopen();
  CHECK(budget.used_bytes() == 2 * kPage);
  CHECK(Volume::describe(fixture.path())->data_bytes == 2 * kPage);
  fixture.drop();
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("a volume that is closed takes nothing of the budget, whoever still holds it") {
  SpaceBudget budget;
  VolumeFixture fixture(uint64_t{8} << 20, nullptr, nullptr, &budget);
  fixture.write(0, random_bytes(1 << 20, 1));
  CHECK(budget.used_bytes() == 1U << 20);
  REQUIRE(fixture.volume().close().ok());
  CHECK(budget.used_bytes() == 0);
  fixture.drop();
  CHECK(budget.used_bytes() == 0);
  fixture.reopen();
  CHECK(budget.used_bytes() == 1U << 20);
}

TEST_CASE("zeros without a hole keep the space, others do not") {
  TestBase base(random_bytes(1 << 20, 1));
  VolumeFixture fixture(1 << 20, &base);
  Volume& volume = fixture.volume();
  REQUIRE(volume.write_zeroes_wait(0, 10 * kPage, {.fua = false, .no_hole = true}).ok());
  CHECK(volume.stats().data_bytes == 10 * kPage);
  REQUIRE(volume.write_zeroes_wait(10 * kPage, 10 * kPage, {}).ok());
  CHECK(volume.stats().data_bytes == 10 * kPage);
  CHECK(is_zero(fixture.read(0, 20 * kPage)));
  CHECK(fixture.map(0, 20 * kPage) ==
        std::vector<Run>{{10 * kPage, Kind::kData}, {10 * kPage, Kind::kZero}});
  // Parts of pages at both ends; the base was asked for what is around them.
  REQUIRE(volume.write_zeroes_wait(30 * kPage + 100, 2 * kPage, {}).ok());
  Bytes expected(base.content().begin() + 30 * kPage, base.content().begin() + 33 * kPage);
  std::fill_n(expected.begin() + 100, 2 * kPage, std::byte{0});
  CHECK(fixture.read(30 * kPage, 3 * kPage) == expected);
}

TEST_CASE("trimming what was never written costs nothing") {
  VolumeFixture fixture(uint64_t{1} << 40);
  REQUIRE(fixture.volume().trim_wait(12345, uint64_t{20} << 30).ok());
  const VolumeStats stats = fixture.volume().stats();
  CHECK(stats.intent_blocks == 0);
  CHECK(stats.cached_blocks <= 2);
  CHECK(blocks_of(fixture.path() / "map") == 0);
  CHECK(fixture.map(uint64_t{1} << 39, uint64_t{1} << 39, 5) ==
        std::vector<Run>{{uint64_t{16} << 30, Kind::kZero}});
}

TEST_CASE("a write that passes the budget fails, and nothing else changes") {
  SpaceBudget budget(10 * kPage);
  VolumeFixture fixture(1 << 20, nullptr, nullptr, &budget);
  const Bytes bytes = random_bytes(8 * kPage, 1);
  fixture.write(0, bytes);
  Volume& volume = fixture.volume();
  CHECK(absl::IsResourceExhausted(volume.write_wait(100 * kPage, random_bytes(4 * kPage, 2))));
  CHECK(budget.used_bytes() == 8 * kPage);
  CHECK(fixture.read(0, 8 * kPage) == bytes);
  CHECK(is_zero(fixture.read(100 * kPage, 4 * kPage)));
  // What it has already may be written again, and trimming makes room.
  fixture.write(0, bytes);
  REQUIRE(volume.trim_wait(0, 4 * kPage).ok());
  fixture.write(100 * kPage, random_bytes(4 * kPage, 3));
  CHECK(budget.used_bytes() == 8 * kPage);
  fixture.close_and_reopen();
  CHECK(fixture.read(100 * kPage, 4 * kPage) == random_bytes(4 * kPage, 3));
}

TEST_CASE("two volumes share a budget") {
  SpaceBudget budget(10 * kPage);
  VolumeFixture one(1 << 20, nullptr, nullptr, &budget);
  VolumeFixture two(1 << 20, nullptr, nullptr, &budget);
  one.write(0, random_bytes(6 * kPage, 1));
  CHECK(absl::IsResourceExhausted(two.volume().write_wait(0, random_bytes(5 * kPage, 1))));
  one.drop();
  two.write(0, random_bytes(5 * kPage, 1));
  budget.set_limit(kPage);
  CHECK(absl::IsResourceExhausted(two.volume().write_wait(10 * kPage, random_bytes(kPage, 1))));
  two.write(0, random_bytes(5 * kPage, 1));
}

TEST_CASE("what is taken of the budget leaves the file system's reserve free") {
  constexpr uint64_t kMuch = SpaceBudget::kBytesALook;
  constexpr uint64_t kReserve = 100 * kMuch;
  uint64_t free = kReserve + 3 * kMuch;
  int looks = 0;
  SpaceBudget budget(10 * kMuch, {kReserve, [&] {
                                    ++looks;
                                    return free;
                                  }});
  const auto take = [&](uint64_t bytes) {
    const absl::Status status = budget.take(bytes);
    if (status.ok()) free -= bytes;
    return status;
  };
  // One look for much that is taken.
  for (int i = 0; i < 4; ++i) CHECK(take(kMuch / 4).ok());
  CHECK(looks == 1);
  CHECK(take(kMuch).ok());
  CHECK(looks <= 2);
  CHECK(take(kMuch).ok());
  CHECK(free == kReserve);
  const absl::Status none = take(kPage);
  CHECK(absl::IsResourceExhausted(none));
  CHECK(none.message().find("reserve") != std::string_view::npos);
  CHECK(budget.used_bytes() == 3 * kMuch);
  // What is given back to the budget counts when the file system has it.
  budget.give(kMuch);
  CHECK(absl::IsResourceExhausted(take(kPage)));
  free += kMuch;
  CHECK(take(kMuch).ok());
  CHECK(absl::IsResourceExhausted(take(kPage)));
  // There already: the reserve is not asked.
  budget.take_anyway(kPage);
  CHECK(budget.used_bytes() == 3 * kMuch + kPage);
  // The budget's own limit is as it was, and so is a file system without a reserve.
  free = 1000 * kMuch;
  CHECK(absl::IsResourceExhausted(take(8 * kMuch)));
  SpaceBudget plain(kMuch, {0, [] { return uint64_t{0}; }});
  CHECK(plain.take(kMuch).ok());
}

TEST_CASE("a volume takes no new page of the reserve, and all that needs none goes on") {
  constexpr uint64_t kReserve = uint64_t{100} << 20;
  std::atomic<uint64_t> free = kReserve + (uint64_t{50} << 20);
  SpaceBudget budget(uint64_t{1} << 40, {kReserve, [&] { return free.load(); }});
  VolumeFixture fixture(uint64_t{16} << 20, nullptr, nullptr, &budget);
  fixture.write(0, random_bytes(8 * kPage, 1));
  free = kReserve;
  Volume& volume = fixture.volume();
  // Of the last look something may be left.
  absl::Status status;
  for (uint64_t page = 8; status.ok() && page < 1'000; ++page) {
    status = volume.write_wait(page * kPage, random_bytes(kPage, 2));
  }
  CHECK(absl::IsResourceExhausted(status));
  CHECK(budget.used_bytes() <= SpaceBudget::kBytesALook + 8 * kPage);
  CHECK(volume.write_wait(0, random_bytes(8 * kPage, 3)).ok());
  CHECK(volume.write_wait(100, random_bytes(50, 4), true).ok());
  CHECK(volume.flush_wait().ok());
  CHECK(volume.trim_wait(kPage, kPage).ok());
  const Bytes written = random_bytes(8 * kPage, 3);
  CHECK(fixture.read(2 * kPage, 6 * kPage) == Bytes(written.begin() + 2 * kPage, written.end()));
  CHECK(absl::IsResourceExhausted(volume.write_wait(2'000 * kPage, random_bytes(kPage, 5))));
  free = kReserve + kPage;
  CHECK(volume.write_wait(2'000 * kPage, random_bytes(kPage, 5)).ok());
}

}  // namespace blobcache::volume
