// Random operations on file volumes beside a plain vector of bytes, as fsx does it: writes that
// make the file longer, lengths up and down, holes; across closes, kills and new boots.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "test/store/volume/file_load.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {
namespace {

class FileWork {
 public:
  FileWork(VolumeFixture& fixture, Bytes content, uint64_t most, uint64_t seed)
      : fixture_(fixture), content_(std::move(content)), most_(most), random_(seed) {}

  void step() {
    const uint64_t what = below(16);
    if (what == 0) {
      end_file_run();
    } else if (what < 6) {
      check_some();
    } else {
      const FileOp op = random_file_op(random_, content_.size(), most_);
      CAPTURE(op.text());
      const absl::Status status = run_file_op(fixture_.volume(), op);
      REQUIRE_MESSAGE(status.ok(), base::message(status));
      apply_file_op(op, content_);
    }
    REQUIRE(fixture_.volume().size_bytes() == content_.size());
  }

  void check_all() {
    REQUIRE(fixture_.volume().size_bytes() == content_.size());
    REQUIRE(fixture_.read_all() == content_);
    uint64_t data = 0;
    uint64_t at = 0;
    for (const Run& run : fixture_.map(0, content_.size(), 100000)) {
      if (run.kind == Run::Kind::kData) data += (run.length_bytes + kPage - 1) / kPage * kPage;
      at += run.length_bytes;
    }
    CHECK(at == content_.size());
    // Nothing is kept of what nobody can read.
    CHECK(fixture_.volume().stats().data_bytes == data);
  }

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }

  void check_some() {
    const uint64_t offset = below(content_.size() + 1);
    const uint64_t length = std::min<uint64_t>(below(20000), content_.size() - offset);
    const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(offset);
    REQUIRE(fixture_.read(offset, length) ==
            Bytes(begin, begin + static_cast<std::ptrdiff_t>(length)));
  }

  void end_file_run() {
    switch (below(3)) {
      case 0:
        fixture_.close_and_reopen();
        CHECK_FALSE(fixture_.volume().stats().recovered);
        break;
      case 1:
        fixture_.reopen();  // a kill
        break;
      default:
        REQUIRE(fixture_.volume().flush_wait().ok());
        fixture_.options().boot_id = boot(static_cast<uint8_t>(2 + below(200)));
        fixture_.reopen();
    }
    check_all();
  }

  VolumeFixture& fixture_;
  Bytes content_;
  const uint64_t most_;
  std::mt19937_64 random_;
};

void run_file_model(uint64_t most, std::optional<uint64_t> base_bytes, uint64_t seed, int steps) {
  CAPTURE(most);
  CAPTURE(seed);
  std::unique_ptr<TestBase> base;
  Bytes content;
  if (base_bytes) {
    base = std::make_unique<TestBase>(random_bytes(*base_bytes, seed + 1));
    content = base->content();
    // A file that was shortened before it was written to, or has a hole at its end.
    content.resize(*base_bytes * (1 + seed % 3) / 2);
  }
  VolumeFixture fixture(FileSpec{.length = content.size(),
                                 .base = base.get(),
                                 .cached_blocks = VolumeOptions::kMinCachedBlocks,
                                 .in_folder = seed % 2 == 0});
  FileWork work(fixture, content, most, seed);
  for (int i = 0; i < steps; ++i) work.step();
  work.check_all();
  fixture.close_and_reopen();
  work.check_all();
}

}  // namespace

TEST_CASE("a small file is what was written to it") {
  for (uint64_t seed = 0; seed < 12; ++seed) run_file_model(20000, std::nullopt, seed, 150);
}

TEST_CASE("a small file over a base is the base and what was written") {
  for (uint64_t seed = 0; seed < 12; ++seed) run_file_model(30000, 10000, seed, 150);
}

TEST_CASE("a file of some extents, with and without a base") {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    run_file_model(1000000, std::nullopt, seed, 150);
    run_file_model(1000000, 500001, seed, 150);
  }
}

TEST_CASE("a file of more blocks of the map than are held in memory") {
  for (uint64_t seed = 0; seed < 2; ++seed) {
    run_file_model(20 * kBlockBytes, std::nullopt, seed, 120);
  }
}

}  // namespace blobcache::volume
