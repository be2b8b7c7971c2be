#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/geometry.h"
#include "store/page/object_key.h"

namespace blobcache::page {

// The page map of an object: which of its pages the disk holds, which are zero, and a checksum a
// page. The format is in docs/disk-format.md. Pure: bytes in, values out; what comes in is never
// trusted.

/// A map block speaks of 15 extents (960 pages, 3.75 MiB of the object), because 15 extents' words
/// and checksums and a header of 16 bytes fill 4 KiB to the byte.
inline constexpr uint32_t kExtentsPerMapBlock = 15;
inline constexpr uint64_t kMapBlockSize = 4096;
inline constexpr uint32_t kPagesPerMapBlock = kExtentsPerMapBlock * kPagesPerExtent;
static_assert(16 + kExtentsPerMapBlock * 16 + kPagesPerMapBlock * 4 == kMapBlockSize);

/// An object up to this size has no map file: its map is a few bytes that the catalog keeps.
inline constexpr uint64_t kInlineMapMaxObject = uint64_t{1} << 20;

inline constexpr uint32_t kPageMapVersion = 1;

[[nodiscard]] constexpr uint64_t map_block_of(uint64_t extent) {
  return extent / kExtentsPerMapBlock;
}
[[nodiscard]] constexpr uint64_t map_block_count(uint64_t size_bytes) {
  return (extent_count(size_bytes) + kExtentsPerMapBlock - 1) / kExtentsPerMapBlock;
}
/// Where block `block` begins in a map file: the header takes the first 4 KiB.
[[nodiscard]] constexpr uint64_t map_block_offset(uint64_t block) {
  return (block + 1) * kMapBlockSize;
}

/// The first 4 KiB of a map file: whose map it is. Value type.
struct MapHeader {
  uint32_t version = kPageMapVersion;
  ObjectKey key;
  Incarnation incarnation;
  uint64_t size_bytes = 0;

  friend bool operator==(const MapHeader&, const MapHeader&) = default;
};

using MapBlockBytes = std::array<std::byte, kMapBlockSize>;

[[nodiscard]] MapBlockBytes encode_map_header(const MapHeader& header);
/// DATA_LOSS for anything but a whole header with a right checksum; FAILED_PRECONDITION for a newer
/// version.
[[nodiscard]] absl::StatusOr<MapHeader> decode_map_header(absl::Span<const std::byte> bytes);

/// One block's worth of page states. Extents and pages are counted from the block's first. Value
/// type, 4 KiB.
struct MapBlock {
  std::array<PageMask, kExtentsPerMapBlock> on_disk{};  ///< pages with data on disk
  std::array<PageMask, kExtentsPerMapBlock> zero{};     ///< pages known to be zero, not on disk
  std::array<uint32_t, kPagesPerMapBlock> checksum{};   ///< page_checksum() of pages on disk
};

[[nodiscard]] MapBlockBytes encode_map_block(const MapBlock& block, uint64_t block_number,
                                             const Incarnation& incarnation);
/// DATA_LOSS when the checksum, the block's number or the incarnation is not right, or a page is
/// said to be both on disk and zero.
[[nodiscard]] absl::StatusOr<MapBlock> decode_map_block(absl::Span<const std::byte> bytes,
                                                        uint64_t block_number,
                                                        const Incarnation& incarnation);

/// The inline map of an object of `size_bytes` (at most kInlineMapMaxObject): block 0 cut to what
/// the object has. About 16 bytes an extent and 4 a page.
[[nodiscard]] std::string encode_inline_map(const MapBlock& block, uint64_t size_bytes,
                                            const Incarnation& incarnation);
[[nodiscard]] absl::StatusOr<MapBlock> decode_inline_map(std::string_view bytes,
                                                         uint64_t size_bytes,
                                                         const Incarnation& incarnation);

}  // namespace blobcache::page
