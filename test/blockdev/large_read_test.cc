#include "blockdev/impl/large_read.h"

#include <doctest/doctest.h>

#include <vector>

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kOneMiB = uint64_t{1} << 20;

TEST_CASE("large read: pieces cover the range once and end at whole MiBs") {
  for (const uint64_t offset : {uint64_t{0}, kOneMiB - 1, 3 * kOneMiB + 17}) {
    for (const uint64_t length : {kOneMiB + 1, 2 * kOneMiB, 7 * kOneMiB + 5}) {
      LargeRead read(LargeRead::Kind::kChunks, {.offset = offset, .length = length});
      uint64_t at = offset;
      uint32_t expected = 0;
      while (read.can_ask()) {
        uint32_t number = 0;
        const LargeRead::Piece piece = read.ask(number);
        CHECK(number == expected++);
        CHECK(piece.offset == at);
        CHECK(piece.length <= Device::kMaxRead);
        at += piece.length;
        CHECK((at % kOneMiB == 0 || at == offset + length));
        CHECK_FALSE(read.done());
        read.arrived(number, piece, absl::UnavailableError("x"));
        CHECK(read.leaves() == piece.offset);
        REQUIRE(read.leave());
        CHECK(read.leaves() == at);
      }
      CHECK(at == offset + length);
      CHECK(read.done());
    }
  }
}

TEST_CASE("large read: no more than the window is asked for, and pieces leave in order") {
  LargeRead read(LargeRead::Kind::kChunks, {.offset = 0, .length = 6 * kOneMiB});
  std::vector<LargeRead::Piece> pieces;
  uint32_t number = 0;
  while (read.can_ask()) pieces.push_back(read.ask(number));
  REQUIRE(pieces.size() == LargeRead::kWindow);
  read.arrived(2, pieces[2], absl::UnavailableError("2"));
  read.arrived(1, pieces[1], absl::UnavailableError("1"));
  CHECK_FALSE(read.leave());
  CHECK_FALSE(read.can_ask());
  read.arrived(0, pieces[0], absl::UnavailableError("0"));
  for (uint64_t i = 0; i < 3; ++i) {
    const auto piece = read.leave();
    REQUIRE(piece);
    CHECK(piece->piece.offset == i * kOneMiB);
  }
  CHECK_FALSE(read.leave());
  CHECK(read.can_ask());
  CHECK_FALSE(read.nothing_under_way());
}

}  // namespace
}  // namespace blobcache::blockdev
