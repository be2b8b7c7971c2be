// Cuts: what a volume held at one moment, while it goes on; and growing.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "store/volume/space_budget.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

using Kind = Run::Kind;

constexpr uint64_t kCutSize = kBlockBytes + 10 * kPage + 77;

std::shared_ptr<VolumeCut> cut_of(Volume& volume) {
  auto cut = volume.cut();
  REQUIRE_MESSAGE(cut.ok(), base::message(cut.status()));
  return *std::move(cut);
}

Bytes read_cut(VolumeCut& cut, uint64_t offset, uint64_t length) {
  Bytes bytes(length, std::byte{0x5A});
  const absl::Status status = cut.read_wait(offset, absl::MakeSpan(bytes));
  REQUIRE_MESSAGE(status.ok(), base::message(status));
  return bytes;
}

/// Writes, zeros and trims at random.
void scribble(VolumeFixture& fixture, Model& model, std::mt19937_64& random, int times) {
  for (int i = 0; i < times; ++i) {
    const uint64_t length = 1 + random() % 200000;
    const uint64_t offset = random() % (model.bytes().size() - length);
    if (random() % 3 == 0) {
      REQUIRE(fixture.volume().trim_wait(offset, length).ok());
      model.zero(offset, length);
    } else {
      const Bytes bytes = random_bytes(length, random());
      fixture.write(offset, bytes);
      model.write(offset, bytes);
    }
  }
}

}  // namespace

TEST_CASE("a cut is what the volume held, whatever is written afterwards") {
  for (const bool has_base : {false, true}) {
    TestBase base(random_bytes(kCutSize / 2, 1));
    VolumeFixture fixture(kCutSize, has_base ? &base : nullptr);
    Model model(kCutSize, has_base ? base.content() : Bytes());
    std::mt19937_64 random(2);
    for (int round = 0; round < 3; ++round) {
      scribble(fixture, model, random, 30);
      const Bytes then = model.bytes();
      const std::shared_ptr<VolumeCut> cut = cut_of(fixture.volume());
      const auto map_then = fixture.map(0, kCutSize);
      CHECK(read_cut(*cut, 0, kCutSize) == then);
      scribble(fixture, model, random, 30);
      CHECK(read_cut(*cut, 0, kCutSize) == then);
      CHECK(*cut->map_wait(0, kCutSize, 1000) == map_then);
      CHECK(fixture.read_all() == model.bytes());
      REQUIRE(fixture.volume().flush_wait().ok());
      CHECK(read_cut(*cut, 1000, 70000) == Bytes(then.begin() + 1000, then.begin() + 71000));
    }
    fixture.close_and_reopen();
    CHECK(fixture.read_all() == model.bytes());
  }
}

TEST_CASE("one cut at a time, and none of a closed volume") {
  VolumeFixture fixture(kCutSize);
  fixture.write(0, random_bytes(kPage, 1));
  std::shared_ptr<VolumeCut> cut = cut_of(fixture.volume());
  CHECK(absl::IsFailedPrecondition(fixture.volume().cut().status()));
  Bytes bytes(10);
  CHECK(absl::IsOutOfRange(cut->read_wait(kCutSize - 9, absl::MakeSpan(bytes))));
  CHECK(absl::IsOutOfRange(cut->map_wait(kCutSize, 1, 1).status()));
  cut.reset();
  cut = cut_of(fixture.volume());
  REQUIRE(fixture.volume().close().ok());
  CHECK(absl::IsFailedPrecondition(cut->read_wait(0, absl::MakeSpan(bytes))));
  cut.reset();
  CHECK(absl::IsFailedPrecondition(fixture.volume().cut().status()));
}

TEST_CASE("a cut that finds no room is lost, and the writer goes on") {
  SpaceBudget budget(12 * kPage);
  VolumeFixture fixture(kCutSize, nullptr, nullptr, &budget);
  const Bytes first = random_bytes(10 * kPage, 1);
  fixture.write(0, first);
  std::shared_ptr<VolumeCut> cut = cut_of(fixture.volume());
  const Bytes second = random_bytes(2 * kPage, 2);
  fixture.write(0, second);
  CHECK(read_cut(*cut, 0, 10 * kPage) == first);
  CHECK(budget.used_bytes() == 12 * kPage);
  fixture.write(2 * kPage, second);
  CHECK(fixture.read(2 * kPage, 2 * kPage) == second);
  Bytes bytes(kPage);
  CHECK(absl::IsResourceExhausted(cut->read_wait(0, absl::MakeSpan(bytes))));
  cut.reset();
  CHECK(budget.used_bytes() == 10 * kPage);
  // The next one is whole.
  cut = cut_of(fixture.volume());
  CHECK(read_cut(*cut, 0, 2 * kPage) == second);
}

TEST_CASE("blocks that leave memory while there is a cut do not forget it") {
  VolumeFixture fixture(60 * kBlockBytes);
  fixture.options().cached_blocks = VolumeOptions::kMinCachedBlocks;
  fixture.reopen();
  const Bytes before = random_bytes(2 * kPage, 1);
  for (uint64_t block = 0; block < 60; ++block) fixture.write(block * kBlockBytes, before);
  const std::shared_ptr<VolumeCut> cut = cut_of(fixture.volume());
  for (const uint64_t seed : {2U, 3U}) {
    for (uint64_t block = 0; block < 60; ++block) {
      fixture.write(block * kBlockBytes, random_bytes(kPage, seed));
    }
  }
  CHECK(fixture.volume().stats().cached_blocks < 40);
  for (uint64_t block = 0; block < 60; ++block) {
    CHECK(read_cut(*cut, block * kBlockBytes, 2 * kPage) == before);
  }
}

TEST_CASE("a cut among writers has what was answered before it, and nothing begun after it") {
  // Each writer fills the pages of its own, one after the other, with the number of its round. A
  // cut shows of each writer some pages of one round and then the ones of the round before.
  constexpr uint64_t kPages = 100;
  constexpr size_t kWriters = 3;
  VolumeFixture fixture(kWriters * kPages * kPage);
  std::atomic<bool> ends{false};
  std::atomic<uint64_t> answered[kWriters] = {};
  std::vector<std::thread> writers;
  for (size_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t i = 0; !ends.load(); ++i) {
        Bytes page(kPage);
        std::memcpy(page.data(), &i, sizeof(i));
        std::memcpy(page.data() + kPage - sizeof(i), &i, sizeof(i));
        fixture.write((writer * kPages + i % kPages) * kPage, page);
        answered[writer].store(i + 1);
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    uint64_t before[kWriters];
    for (size_t writer = 0; writer < kWriters; ++writer) {
      while (answered[writer].load() < kPages) std::this_thread::yield();
      before[writer] = answered[writer].load();
    }
    const std::shared_ptr<VolumeCut> cut = cut_of(fixture.volume());
    uint64_t after[kWriters];
    for (size_t writer = 0; writer < kWriters; ++writer) after[writer] = answered[writer].load();
    const Bytes content = read_cut(*cut, 0, kWriters * kPages * kPage);
    CHECK(read_cut(*cut, 0, kWriters * kPages * kPage) == content);
    for (size_t writer = 0; writer < kWriters; ++writer) {
      // The newest page tells how many writes are in the cut; the others must be those before it.
      uint64_t newest = 0;
      std::vector<uint64_t> numbers(kPages);
      for (uint64_t i = 0; i < kPages; ++i) {
        const std::byte* page = content.data() + (writer * kPages + i) * kPage;
        uint64_t last = 0;
        std::memcpy(&numbers[i], page, sizeof(uint64_t));
        std::memcpy(&last, page + kPage - sizeof(last), sizeof(last));
        CHECK(numbers[i] == last);
        newest = std::max(newest, numbers[i]);
      }
      CHECK(newest + 1 >= before[writer]);
      CHECK(newest <= after[writer]);
      for (uint64_t i = 0; i < kPages; ++i) {
        CHECK(numbers[(newest - i) % kPages] == newest - i);
      }
    }
  }
  ends.store(true);
  for (std::thread& writer : writers) writer.join();
}

TEST_CASE("a volume grows, durably, and what is new is zero") {
  TestBase base(random_bytes(100000, 1));
  VolumeFixture fixture(50001, &base);
  Model model(50001, base.content());
  fixture.write(49000, random_bytes(1001, 2));
  model.write(49000, random_bytes(1001, 2));
  Volume& volume = fixture.volume();
  CHECK(absl::IsInvalidArgument(volume.grow(50000)));
  CHECK(absl::IsInvalidArgument(volume.grow(Volume::kMaxSize + 1)));
  const std::shared_ptr<VolumeCut> cut = cut_of(volume);
  REQUIRE(volume.grow(kCutSize).ok());
  model.grow(kCutSize);
  CHECK(cut->size_bytes() == 50001);
  CHECK(fixture.read_all() == model.bytes());
  fixture.write(kCutSize - 5000, random_bytes(5000, 3));
  model.write(kCutSize - 5000, random_bytes(5000, 3));
  CHECK(volume.description().size_bytes == kCutSize);
  CHECK(volume.description().base_bytes == 50001);
}

TEST_CASE("what a volume grew to is there after a kill") {
  VolumeFixture fixture(5000);
  fixture.write(0, random_bytes(5000, 1));
  REQUIRE(fixture.volume().grow(3 * kBlockBytes).ok());
  fixture.write(3 * kBlockBytes - 10, random_bytes(10, 2));
  fixture.reopen();
  CHECK(fixture.volume().size_bytes() == 3 * kBlockBytes);
  CHECK(fixture.read(0, 5000) == random_bytes(5000, 1));
  CHECK(fixture.read(5000, 5000) == Bytes(5000));
  CHECK(fixture.read(3 * kBlockBytes - 10, 10) == random_bytes(10, 2));
}

}  // namespace blobcache::volume
