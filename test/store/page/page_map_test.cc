#include "store/page/page_map.h"

#include <doctest/doctest.h>

#include <random>

namespace blobcache::page {
namespace {

MapBlock random_block(uint32_t seed, uint32_t extents, uint32_t pages) {
  std::mt19937_64 random(seed);
  MapBlock block;
  for (uint32_t i = 0; i < extents; ++i) {
    block.on_disk.at(i) = random();
    block.zero.at(i) = random() & ~block.on_disk.at(i);
  }
  for (uint32_t i = 0; i < pages; ++i) block.checksum.at(i) = static_cast<uint32_t>(random());
  return block;
}

bool same(const MapBlock& a, const MapBlock& b) {
  return a.on_disk == b.on_disk && a.zero == b.zero && a.checksum == b.checksum;
}

}  // namespace

TEST_CASE("a map block survives the disk") {
  const Incarnation life = Incarnation::random();
  const MapBlock block = random_block(1, kExtentsPerMapBlock, kPagesPerMapBlock);
  const MapBlockBytes bytes = encode_map_block(block, 42, life);
  const auto decoded = decode_map_block(bytes, 42, life);
  REQUIRE(decoded.ok());
  CHECK(same(block, *decoded));
}

TEST_CASE("any damaged byte, another place or another life is DATA_LOSS") {
  const Incarnation life = Incarnation::random();
  const MapBlockBytes good =
      encode_map_block(random_block(2, kExtentsPerMapBlock, kPagesPerMapBlock), 5, life);
  for (size_t at = 0; at < good.size(); at += 61) {
    MapBlockBytes bad = good;
    bad.at(at) ^= std::byte{0x10};
    CHECK(absl::IsDataLoss(decode_map_block(bad, 5, life).status()));
  }
  CHECK(absl::IsDataLoss(decode_map_block(good, 6, life).status()));
  CHECK(absl::IsDataLoss(decode_map_block(good, 5, Incarnation::random()).status()));
  CHECK(absl::IsDataLoss(decode_map_block(absl::MakeConstSpan(good).first(100), 5, life).status()));
  CHECK(absl::IsDataLoss(decode_map_block(MapBlockBytes{}, 0, life).status()));
}

TEST_CASE("a page both zero and on disk is refused though the checksum is right") {
  const Incarnation life = Incarnation::random();
  MapBlock block;
  block.on_disk[3] = 1;
  block.zero[3] = 1;
  CHECK(absl::IsDataLoss(decode_map_block(encode_map_block(block, 0, life), 0, life).status()));
}

TEST_CASE("an inline map takes what the object needs and no more") {
  const Incarnation life = Incarnation::random();
  const uint64_t size = kExtentSize + 5 * kPageSize + 1;  // 2 extents, 70 pages
  const MapBlock block = random_block(3, 2, 70);
  const std::string bytes = encode_inline_map(block, size, life);
  CHECK(bytes.size() == 16 + 2 * 16 + 70 * 4);
  const auto decoded = decode_inline_map(bytes, size, life);
  REQUIRE(decoded.ok());
  CHECK(same(block, *decoded));
  CHECK(absl::IsDataLoss(decode_inline_map(bytes, size + kPageSize, life).status()));
  CHECK(absl::IsDataLoss(decode_inline_map("", size, life).status()));
  CHECK(absl::IsDataLoss(decode_inline_map(bytes, kInlineMapMaxObject + 1, life).status()));
}

TEST_CASE("the map of an empty object is not empty") {
  const Incarnation life = Incarnation::random();
  const std::string bytes = encode_inline_map({}, 0, life);
  CHECK_FALSE(bytes.empty());
  CHECK(decode_inline_map(bytes, 0, life).ok());
}

TEST_CASE("a map header says whose map it is") {
  MapHeader header;
  header.key.bytes[0] = 9;
  header.incarnation = Incarnation::random();
  header.size_bytes = 123456789;
  const MapBlockBytes good = encode_map_header(header);
  const auto decoded = decode_map_header(good);
  REQUIRE(decoded.ok());
  CHECK(*decoded == header);

  MapBlockBytes bad = good;
  bad[40] ^= std::byte{1};
  CHECK(absl::IsDataLoss(decode_map_header(bad).status()));
  CHECK(absl::IsDataLoss(decode_map_header(MapBlockBytes{}).status()));
  header.version = kPageMapVersion + 1;
  CHECK(absl::IsFailedPrecondition(decode_map_header(encode_map_header(header)).status()));
}

}  // namespace blobcache::page
