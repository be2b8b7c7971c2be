// Random operations beside a plain vector of bytes: with and without a base, with sizes that are no
// multiples of anything, with a map cache that is too small, across closes, kills and checkpoints.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>

#include "store/page/object.h"
#include "store/page/pinned_range.h"
#include "store/volume/volume.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;
};

class RandomWork {
 public:
  RandomWork(VolumeFixture& fixture, Model& model, uint64_t seed)
      : fixture_(fixture), model_(model), random_(seed) {}

  void step() {
    const Range range = pick();
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const Bytes bytes = random_bytes(range.length, random_());
        fixture_.write(range.offset, bytes, below(8) == 0);
        model_.write(range.offset, bytes);
        break;
      }
      case 4:
        REQUIRE(fixture_.volume()
                    .write_zeroes_wait(range.offset, range.length,
                                       {.fua = below(8) == 0, .no_hole = below(2) == 0})
                    .ok());
        model_.zero(range.offset, range.length);
        break;
      case 5:
        REQUIRE(fixture_.volume().trim_wait(range.offset, range.length).ok());
        model_.zero(range.offset, range.length);
        break;
      case 6:
        REQUIRE(fixture_.volume().flush_wait().ok());
        break;
      case 7:
        if (below(4) == 0) end_run();
        break;
      default:
        REQUIRE(fixture_.read(range.offset, range.length) ==
                model_.part(range.offset, range.length));
        check_pinned(range);
        check_map(range);
    }
  }

  /// Reads that pinned what they read.
  [[nodiscard]] int pinned() const { return pinned_; }

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }

  Range pick() {
    const uint64_t size = model_.bytes().size();
    constexpr uint64_t kLongest[] = {1, 600, 4096, 20000, 700000};
    Range range;
    range.length = std::min(size, 1 + below(kLongest[below(5)]));
    range.offset = below(size - range.length + 1);
    if (below(2) == 0) {
      range.offset = range.offset / 4096 * 4096;
      range.length = std::min((range.length + 4095) / 4096 * 4096, size - range.offset);
    }
    // Ends are where mistakes are.
    if (below(10) == 0) range.offset = size - range.length;
    return range;
  }

  void end_run() {
    switch (below(3)) {
      case 0:
        fixture_.close_and_reopen();
        CHECK_FALSE(fixture_.volume().stats().recovered);
        break;
      case 1:
        fixture_.reopen();  // a kill, under the same boot
        break;
      default:
        REQUIRE(fixture_.volume().flush_wait().ok());
        fixture_.options().boot_id = boot(static_cast<uint8_t>(2 + below(200)));
        fixture_.reopen();
    }
  }

  void check_pinned(const Range& range) {
    page::PinnedRange pinned;
    if (!fixture_.volume().try_pin(range.offset, range.length, pinned)) return;
    ++pinned_;
    Bytes bytes;
    for (const iovec& piece : pinned.pieces()) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      bytes.insert(bytes.end(), from, from + piece.iov_len);
    }
    REQUIRE(bytes == model_.part(range.offset, range.length));
    CHECK(pinned.size_bytes() == range.length);
  }

  /// The kinds of the runs agree with the bytes, and add up.
  void check_map(const Range& range) {
    uint64_t at = range.offset;
    for (const Run& run : fixture_.map(range.offset, range.length, 1000)) {
      if (run.kind == Run::Kind::kZero) {
        CHECK(model_.part(at, run.length_bytes) == Bytes(run.length_bytes));
      }
      at += run.length_bytes;
    }
    CHECK(at == range.offset + range.length);
  }

  VolumeFixture& fixture_;
  Model& model_;
  std::mt19937_64 random_;
  int pinned_ = 0;
};

/// Returns how many reads pinned what they read.
int run_model(uint64_t size_bytes, std::optional<uint64_t> base_bytes, uint64_t seed, int steps) {
  CAPTURE(size_bytes);
  CAPTURE(seed);
  std::unique_ptr<TestBase> base;
  if (base_bytes) base = std::make_unique<TestBase>(random_bytes(*base_bytes, seed + 1));
  VolumeFixture fixture(size_bytes, base.get());
  fixture.options().cached_blocks = VolumeOptions::kMinCachedBlocks;
  fixture.reopen();
  Model model(size_bytes, base == nullptr ? Bytes() : base->content());
  RandomWork work(fixture, model, seed);
  for (int i = 0; i < steps; ++i) work.step();
  CHECK(fixture.read_all() == model.bytes());
  fixture.close_and_reopen();
  CHECK(fixture.read_all() == model.bytes());
  return work.pinned();
}

}  // namespace

TEST_CASE("a volume without a base is what was written to it") {
  CHECK(run_model(kBlockBytes + 12345, std::nullopt, 1, 600) > 10);
  run_model(5000, std::nullopt, 2, 300);
  run_model(1, std::nullopt, 3, 50);
}

TEST_CASE("a volume over a base is the base and what was written") {
  CHECK(run_model(kBlockBytes + 12345, kBlockBytes + 12345, 4, 600) > 10);
}

TEST_CASE("a base that is shorter, or longer, than its volume") {
  run_model(1000000, 500001, 5, 400);
  run_model(500001, 1000000, 6, 400);
}

TEST_CASE("more blocks than the map's cache holds") {
  run_model(40 * kBlockBytes, std::nullopt, 7, 400);
}

TEST_CASE("a part of a page reads the base once, a whole page never") {
  TestBase base(random_bytes(1 << 20, 8));
  VolumeFixture fixture(1 << 20, &base);
  fixture.write(8192, random_bytes(4096, 1));
  CHECK(base.bytes_read() == 0);
  fixture.write(100, random_bytes(50, 2));
  CHECK(base.bytes_read() == 4096);
  fixture.write(300, random_bytes(50, 3));
  fixture.write(0, random_bytes(100, 4));
  CHECK(base.bytes_read() == 4096);
  REQUIRE(fixture.volume().trim_wait(16384, 4096).ok());
  fixture.write(16384 + 7, random_bytes(5, 5));
  CHECK(base.bytes_read() == 4096);
}

TEST_CASE("what is zeros, or the base's and in memory, is pinned where it is") {
  const Bytes content = random_bytes((1 << 20) + 5000, 9);
  TestBase base(content);
  VolumeFixture fixture(2 << 20, &base);
  Volume& volume = fixture.volume();
  page::PinnedRange range;
  (void)fixture.read_all();
  REQUIRE(volume.try_pin(4096, 8192, range));
  CHECK_FALSE(range.has_zeros());
  CHECK(std::memcmp(range.pieces().front().iov_base, content.data() + 4096, 8192) == 0);
  // Over extents' borders, and at no page's.
  CHECK(volume.try_pin((256 << 10) - 100, 1 << 19, range));
  CHECK(range.size_bytes() == 1 << 19);
  // What is the volume's own, or partly, is nobody's to pin.
  fixture.write(8192, random_bytes(4096, 1));
  CHECK_FALSE(volume.try_pin(8192, 4096, range));
  CHECK_FALSE(volume.try_pin(4096, 8192, range));
  CHECK(volume.try_pin(4096, 4096, range));
  // Zeros need no memory.
  REQUIRE(volume.trim_wait(16384, 8192).ok());
  REQUIRE(volume.try_pin(16384, 8192, range));
  CHECK(range.all_zeros());
  CHECK_FALSE(volume.try_pin(12288, 8192, range));
  REQUIRE(volume.try_pin((1 << 20) + 8192, 700000, range));
  CHECK(range.all_zeros());
  CHECK(range.size_bytes() == 700000);
  // The page in which the base ends is partly this and partly that.
  CHECK_FALSE(volume.try_pin((1 << 20) + 4096, 4096, range));
  CHECK(volume.try_pin((1 << 20) + 4096, 904, range));
  // Nor what is outside, empty or too long for one read.
  CHECK_FALSE(volume.try_pin(2 << 20, 1, range));
  CHECK_FALSE(volume.try_pin(0, 0, range));
  CHECK_FALSE(volume.try_pin(0, page::Object::kMaxRead + 1, range));
}

TEST_CASE("what is outside the volume is refused") {
  VolumeFixture fixture(10000);
  Bytes bytes(4096);
  Volume& volume = fixture.volume();
  CHECK(absl::IsOutOfRange(volume.read_wait(8000, absl::MakeSpan(bytes))));
  CHECK(absl::IsOutOfRange(volume.write_wait(~uint64_t{0}, bytes)));
  CHECK(absl::IsOutOfRange(volume.trim_wait(10001, 0)));
  CHECK(absl::IsOutOfRange(volume.write_zeroes_wait(1, ~uint64_t{0})));
  CHECK(absl::IsOutOfRange(volume.map_wait(0, 10001, 1).status()));
  CHECK(volume.write_wait(10000, {}).ok());
}

}  // namespace blobcache::volume
