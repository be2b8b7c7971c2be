// File volumes with many threads on them, without room, and with steps that fail.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "test/store/page/disk_faults.h"
#include "test/store/volume/file_load.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

using FailedStep = page::DiskStep::Kind;

bool all_zeros(const Bytes& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{}; });
}

/// Runs random changes with the `number`-th step of the kind failing, and looks at what is left.
/// Whether it failed.
bool fail_one_step(FailedStep kind, int result, int number, uint64_t seed) {
  CAPTURE(static_cast<int>(kind));
  CAPTURE(number);
  CAPTURE(seed);
  page::Faults faults;
  TestBase base(random_bytes(70000, 1));
  VolumeFixture fixture(FileSpec{.length = 60000, .base = &base, .fault = faults.hook()});
  FileVersions versions(fixture.read_all());
  std::mt19937_64 random(seed);
  faults.arm(kind, number, result);
  for (int i = 0; i < 25; ++i) {
    const FileOp op = random_file_op(random, versions.last().size(), kBlockBytes + 100000);
    CAPTURE(op.text());
    Bytes after = versions.last();
    apply_file_op(op, after);
    const absl::Status status = run_file_op(fixture.volume(), op);
    versions.add(std::move(after), !status.ok());
    if (!status.ok()) break;
    versions.settle();
  }
  const bool hit = faults.hit();
  faults.disarm();
  const Bytes now = fixture.read_all();
  CHECK(versions.problem(now) == "");
  fixture.reopen();
  CHECK(fixture.read_all() == now);
  fixture.close_and_reopen();
  CHECK(fixture.read_all() == now);
  return hit;
}

}  // namespace

TEST_CASE("cuts of a file that is written to and shortened show one moment") {
  VolumeFixture fixture(FileSpec{});
  Volume& volume = fixture.volume();
  std::atomic<bool> ends{false};
  std::atomic<int> failed{0};
  // Each length has pages that tell it; the file is never anything else.
  std::thread writer([&] {
    for (uint64_t i = 1; !ends.load(); ++i) {
      const uint64_t length = (1 + i % 20) * 16 * kPage;
      if (!volume.set_length_wait(0).ok()) ++failed;
      if (!volume.write_wait(0, Bytes(length, static_cast<std::byte>(1 + i % 20))).ok()) ++failed;
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto cut = volume.cut();
    REQUIRE(cut.ok());
    Bytes bytes((*cut)->size_bytes());
    REQUIRE((*cut)->read_wait(0, absl::MakeSpan(bytes)).ok());
    // It may have come between two extents of a write, and then ends there.
    const auto other = std::find_if(bytes.begin(), bytes.end(),
                                    [&](std::byte byte) { return byte != bytes.front(); });
    if (other != bytes.end()) ++failed;
    if (!bytes.empty() && bytes.front() == std::byte{0}) ++failed;
    Bytes again(bytes.size());
    REQUIRE((*cut)->read_wait(0, absl::MakeSpan(again)).ok());
    if (again != bytes) ++failed;
  }
  ends.store(true);
  writer.join();
  CHECK(failed.load() == 0);
}

TEST_CASE("writers and one who shortens and lengthens the file at the same time") {
  TestBase base(random_bytes(3 << 20, 1));
  for (uint64_t seed = 0; seed < 4; ++seed) {
    VolumeFixture fixture(FileSpec{.length = 3 << 20, .base = seed % 2 == 0 ? &base : nullptr});
    Volume& volume = fixture.volume();
    constexpr uint64_t kFilePages = 1200;
    std::atomic<int> failed{0};
    std::vector<std::thread> threads;
    for (uint64_t thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&, thread] {
        std::mt19937_64 random(seed * 10 + thread);
        for (int i = 0; i < 400; ++i) {
          // Whole pages and parts of them, all of the same bytes: none is ever a mixture.
          const uint64_t page = random() % kFilePages;
          const auto mark = static_cast<std::byte>(1 + page % 250);
          const uint64_t pages = random() % 3 == 0 ? 0 : 1;
          const uint64_t from = pages == 0 ? random() % 4000 : 0;
          const Bytes bytes(pages == 0 ? 90 : kPage, mark);
          if (!volume.write_wait(page * kPage + from, bytes).ok()) ++failed;
        }
      });
    }
    threads.emplace_back([&] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 400; ++i) {
        if (!volume.set_length_wait(random() % (kFilePages * kPage)).ok()) ++failed;
        Bytes into(kPage);
        const absl::Status read =
            volume.read_wait(random() % (kFilePages * kPage), absl::MakeSpan(into));
        if (!read.ok() && !absl::IsOutOfRange(read)) ++failed;
      }
    });
    for (std::thread& thread : threads) thread.join();
    CHECK(failed.load() == 0);
    // All of the base was cut off at some time, or nearly; what was cut off is zeros.
    const uint64_t base_bytes = volume.description().base_bytes;
    REQUIRE(volume.set_length_wait(5000).ok());
    const Bytes head = fixture.read_all();
    REQUIRE(volume.set_length_wait(kFilePages * kPage).ok());
    CHECK(all_zeros(fixture.read(5000, kFilePages * kPage - 5000)));
    CHECK(fixture.read(0, 5000) == head);
    CHECK(base_bytes < (3 << 20));
    const uint64_t data = volume.stats().data_bytes;
    fixture.reopen();
    CHECK(fixture.read(0, 5000) == head);
    CHECK(fixture.volume().stats().data_bytes == data);
    CHECK(all_zeros(fixture.read(5000, kFilePages * kPage - 5000)));
  }
}

TEST_CASE("appends of many threads make the file as long as the last of them") {
  VolumeFixture fixture(FileSpec{});
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 500; ++i) {
        const uint64_t at = (i * 4 + thread) * 1000;
        if (!fixture.volume()
                 .write_wait(at, Bytes(1000, static_cast<std::byte>(thread + 1)))
                 .ok()) {
          ++failed;
        }
        if (fixture.volume().size_bytes() < at + 1000) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed.load() == 0);
  const Bytes all = fixture.read_all();
  REQUIRE(all.size() == 2000000);
  for (uint64_t at = 0; at < all.size(); at += 1000) {
    CHECK(all[at] == static_cast<std::byte>(at / 1000 % 4 + 1));
  }
  fixture.reopen();
  CHECK(fixture.read_all() == all);
}

TEST_CASE("a journal that is full is emptied, and the file goes on") {
  VolumeFixture fixture(FileSpec{});
  Volume& volume = fixture.volume();
  fixture.write(0, random_bytes(100, 1));
  for (uint64_t i = 0; i < 40000; ++i) {
    REQUIRE(volume.set_length_wait(200 + i % 100).ok());
    if (i % 1000 == 0) fixture.write(kPage + i, random_bytes(50, i));
  }
  CHECK(volume.stats().checkpoints > 0);
  REQUIRE(volume.set_length_wait(200).ok());
  Bytes expected = random_bytes(100, 1);
  expected.resize(200);
  CHECK(fixture.read_all() == expected);
  fixture.reopen();
  CHECK(fixture.read_all() == expected);
}

TEST_CASE("every step of a file's changes fails in turn") {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    for (int number = 0; fail_one_step(FailedStep::kWrite, -ENOSPC, number, seed);) ++number;
    for (int number = 0; fail_one_step(FailedStep::kPunchHole, -EIO, number, seed);) ++number;
    for (int number = 0; fail_one_step(FailedStep::kRead, -EIO, number, seed);) ++number;
  }
}

TEST_CASE("what could not be cleaned is cleaned by who makes the file longer, or the next open") {
  for (const bool reopens : {false, true}) {
    page::Faults faults;
    VolumeFixture fixture(FileSpec{.fault = faults.hook()});
    const uint64_t length = kBlockBytes + 3 * page::kExtentSize;
    const Bytes bytes = random_bytes(length, 1);
    fixture.write(0, bytes);
    fixture.close_and_reopen();
    faults.arm(FailedStep::kPunchHole, 1, -EIO, true);
    // It is short at once, whatever the disk says to the rest.
    REQUIRE(fixture.volume().set_length_wait(1000).ok());
    CHECK(fixture.volume().size_bytes() == 1000);
    CHECK(fixture.volume().stats().data_bytes > kPage);
    CHECK_FALSE(fixture.volume().set_length_wait(length).ok());
    CHECK_FALSE(fixture.volume().write_wait(2000, Bytes(10)).ok());
    fixture.write(990, Bytes(10));
    CHECK(fixture.volume().size_bytes() == 1000);
    faults.disarm();
    if (reopens) {
      fixture.close_and_reopen();
      CHECK(fixture.volume().stats().data_bytes == kPage);
    }
    REQUIRE(fixture.volume().set_length_wait(length).ok());
    CHECK(all_zeros(fixture.read(990, length - 990)));
    CHECK(fixture.read(0, 990) == Bytes(bytes.begin(), bytes.begin() + 990));
    CHECK(fixture.volume().stats().data_bytes == kPage);
  }
}

TEST_CASE("a file whose budget is used up says so, and can be shortened") {
  SpaceBudget budget(10 * kPage);
  VolumeFixture fixture(FileSpec{.budget = &budget});
  fixture.write(0, random_bytes(10 * kPage, 1));
  CHECK(absl::IsResourceExhausted(fixture.volume().write_wait(10 * kPage, Bytes(1))));
  CHECK(fixture.volume().size_bytes() == 10 * kPage);
  CHECK(fixture.read_all() == random_bytes(10 * kPage, 1));
  REQUIRE(fixture.volume().set_length_wait(kPage).ok());
  fixture.write(20 * kPage, Bytes(kPage));
  CHECK(budget.used_bytes() == 2 * kPage);
}

}  // namespace blobcache::volume
