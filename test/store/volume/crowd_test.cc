// Many threads on one volume; and what the calling thread does itself.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

/// Does something to one page, of which `known` is what it holds.
absl::Status step_on_page(Volume& volume, uint64_t page, Bytes& known, std::mt19937_64& random,
                          std::atomic<int>& wrong) {
  absl::Status status;
  Bytes found(kPage);
  switch (random() % 8) {
    case 0:
      status = volume.trim_wait(page * kPage, kPage);
      known = Bytes(kPage);
      break;
    case 1:
      status = volume.write_wait(page * kPage + 100, Bytes(50, std::byte{7}));
      std::fill_n(known.begin() + 100, 50, std::byte{7});
      break;
    case 2:
      status = random() % 4 == 0 ? volume.flush_wait() : absl::OkStatus();
      break;
    case 3:
      status = volume.map_wait(0, volume.size_bytes(), 1000).status();
      break;
    case 4:
    case 5:
      status = volume.read_wait(page * kPage, absl::MakeSpan(found));
      if (found != known) ++wrong;
      break;
    default:
      known = random_bytes(kPage, random());
      status = volume.write_wait(page * kPage, known);
  }
  return status;
}

}  // namespace

TEST_CASE("threads whose pages lie between each other's do not disturb one another") {
  constexpr size_t kThreads = 4;
  constexpr uint64_t kPages = 600;
  TestBase base(random_bytes(kPages * kPage / 2, 1));
  VolumeFixture fixture(kPages * kPage, &base);
  std::vector<Bytes> pages(kPages, Bytes(kPage));
  for (uint64_t page = 0; page < kPages / 2; ++page) {
    const auto from = base.content().begin() + static_cast<std::ptrdiff_t>(page * kPage);
    pages[page] = Bytes(from, from + kPage);
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      Volume& volume = fixture.volume();
      std::mt19937_64 random(thread);
      for (int i = 0; i < 400; ++i) {
        const uint64_t page = random() % (kPages / kThreads) * kThreads + thread;
        Bytes& known = pages[page];
        const absl::Status status = step_on_page(volume, page, known, random, wrong);
        if (!status.ok()) ++wrong;
      }
    });
  }
  std::thread cutter([&] {
    for (int i = 0; i < 20; ++i) {
      const auto cut = fixture.volume().cut();
      Bytes once(kPages * kPage);
      Bytes twice(kPages * kPage);
      if (!cut.ok() || !(*cut)->read_wait(0, absl::MakeSpan(once)).ok() ||
          !(*cut)->read_wait(0, absl::MakeSpan(twice)).ok() || once != twice) {
        ++wrong;
      }
      static_cast<void>(fixture.volume().stats());
    }
  });
  for (std::thread& thread : threads) thread.join();
  cutter.join();
  CHECK(wrong.load() == 0);
  for (const bool reopened : {false, true}) {
    for (uint64_t page = 0; page < kPages; ++page) {
      CHECK(fixture.read(page * kPage, kPage) == pages[page]);
    }
    if (!reopened) fixture.close_and_reopen();
  }
}

TEST_CASE("closing lets what is under way end, and nothing begin") {
  for (int round = 0; round < 10; ++round) {
    VolumeFixture fixture(64 * kPage);
    std::vector<std::vector<bool>> answered(3, std::vector<bool>(16));
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&, thread] {
        for (uint64_t i = 0; i < 16; ++i) {
          const uint64_t page = thread * 16 + i;
          const absl::Status status =
              fixture.volume().write_wait(page * kPage, random_bytes(kPage, page));
          answered[thread][i] = status.ok();
          if (!status.ok() && !absl::IsFailedPrecondition(status)) answered[thread].clear();
        }
      });
    }
    const absl::Status closed = fixture.volume().close();
    for (std::thread& thread : threads) thread.join();
    CHECK(closed.ok());
    CHECK(absl::IsFailedPrecondition(fixture.volume().close()));
    CHECK(absl::IsFailedPrecondition(fixture.volume().flush_wait()));
    fixture.reopen();
    CHECK_FALSE(fixture.volume().stats().recovered);
    for (uint64_t page = 0; page < 48; ++page) {
      REQUIRE(answered[page / 16].size() == 16);
      const Bytes found = fixture.read(page * kPage, kPage);
      if (answered[page / 16][page % 16]) CHECK(found == random_bytes(kPage, page));
    }
  }
}

TEST_CASE("a page of a block that is being written to is written on the calling thread") {
  VolumeFixture fixture(kBlockBytes);
  Volume& volume = fixture.volume();
  fixture.write(0, random_bytes(kPage, 1));
  const uint64_t waits = volume.stats().waits;
  const Bytes bytes = random_bytes(70 * kPage, 2);
  bool answered = false;
  volume.write(60 * kPage, bytes, false, [&](const absl::Status& status) {
    CHECK(status.ok());
    answered = true;
  });
  CHECK(answered);
  CHECK(volume.stats().waits == waits);
  Bytes into(70 * kPage);
  CHECK(volume.try_read(60 * kPage, absl::MakeSpan(into)));
  CHECK(into == bytes);
}

TEST_CASE("the journal is emptied when it is full") {
  // Each write to a fresh page, and each trim, is a record.
  VolumeFixture fixture(kBlockBytes);
  const Bytes bytes = random_bytes(kPage, 1);
  for (int round = 0; round < 22; ++round) {
    for (uint64_t page = 0; page < 960; ++page) fixture.write(page * kPage, bytes);
    for (uint64_t extent = 0; extent < 15; ++extent) {
      REQUIRE(fixture.volume().trim_wait(extent << page::kExtentShift, page::kExtentSize).ok());
    }
  }
  fixture.write(5 * kPage, bytes);
  CHECK(fixture.volume().stats().checkpoints > 0);
  fixture.reopen();
  CHECK(fixture.read(5 * kPage, kPage) == bytes);
  CHECK(fixture.read(6 * kPage, kPage) == Bytes(kPage));
  CHECK(fixture.volume().stats().data_bytes == kPage);
}

}  // namespace blobcache::volume
