#include "store/page/page_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "store/page/checksum.h"

namespace blobcache::page {
namespace {

constexpr std::string_view kMagic = "blobcmap";

/// Appends little-endian numbers to a fixed buffer.
class Writer {
 public:
  explicit Writer(absl::Span<std::byte> out) : out_(out) {}

  template <typename Number>
  void number(Number value) {
    for (size_t i = 0; i < sizeof(Number); ++i) {
      out_[at_++] = static_cast<std::byte>(value >> (8 * i));
    }
  }
  void bytes(const void* data, size_t size) {
    std::memcpy(out_.data() + at_, data, size);
    at_ += size;
  }

 private:
  absl::Span<std::byte> out_;
  size_t at_ = 0;
};

/// Takes little-endian numbers from a buffer whose size was checked beforehand.
class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> in) : in_(in) {}

  template <typename Number>
  Number number() {
    Number value = 0;
    for (size_t i = 0; i < sizeof(Number); ++i) {
      value = static_cast<Number>(value | static_cast<Number>(in_[at_++]) << (8 * i));
    }
    return value;
  }
  void bytes(void* data, size_t size) {
    std::memcpy(data, in_.data() + at_, size);
    at_ += size;
  }

 private:
  absl::Span<const std::byte> in_;
  size_t at_ = 0;
};

/// A block begins with a CRC32C of all that follows it, seeded with the incarnation so that a block
/// of another life of the object never passes.
uint32_t block_crc(absl::Span<const std::byte> block, const Incarnation& incarnation) {
  const uint32_t seed = crc32c(absl::MakeConstSpan(
      reinterpret_cast<const std::byte*>(incarnation.bytes.data()), incarnation.bytes.size()));
  return crc32c(block.subspan(sizeof(uint32_t)), seed);
}

struct Shape {
  uint32_t extents;
  uint32_t pages;
  [[nodiscard]] size_t bytes() const { return 16 + size_t{extents} * 16 + size_t{pages} * 4; }
};

constexpr Shape kFullBlock{kExtentsPerMapBlock, kPagesPerMapBlock};

Shape inline_shape(uint64_t size_bytes) {
  return {static_cast<uint32_t>(extent_count(size_bytes)),
          static_cast<uint32_t>(page_count(size_bytes))};
}

void encode(const MapBlock& block, Shape shape, uint64_t block_number,
            const Incarnation& incarnation, absl::Span<std::byte> out) {
  Writer writer(out);
  writer.number(uint32_t{0});  // the checksum's place
  writer.number(kPageMapVersion);
  writer.number(block_number);
  for (uint32_t i = 0; i < shape.extents; ++i) writer.number(block.on_disk[i]);
  for (uint32_t i = 0; i < shape.extents; ++i) writer.number(block.zero[i]);
  for (uint32_t i = 0; i < shape.pages; ++i) writer.number(block.checksum[i]);
  Writer(out).number(block_crc(out, incarnation));
}

absl::StatusOr<MapBlock> decode(absl::Span<const std::byte> bytes, Shape shape,
                                uint64_t block_number, const Incarnation& incarnation) {
  if (bytes.size() != shape.bytes()) {
    return absl::DataLossError(
        fmt::format("page map block of {} bytes, not {}", bytes.size(), shape.bytes()));
  }
  Reader reader(bytes);
  if (reader.number<uint32_t>() != block_crc(bytes, incarnation)) {
    return absl::DataLossError("page map block with a wrong checksum");
  }
  if (reader.number<uint32_t>() != kPageMapVersion) {
    return absl::DataLossError("page map block of an unknown version");
  }
  if (reader.number<uint64_t>() != block_number) {
    return absl::DataLossError("page map block of another place");
  }
  MapBlock block;
  for (uint32_t i = 0; i < shape.extents; ++i) block.on_disk[i] = reader.number<uint64_t>();
  for (uint32_t i = 0; i < shape.extents; ++i) block.zero[i] = reader.number<uint64_t>();
  for (uint32_t i = 0; i < shape.pages; ++i) block.checksum[i] = reader.number<uint32_t>();
  for (uint32_t i = 0; i < shape.extents; ++i) {
    if ((block.on_disk[i] & block.zero[i]) != 0) {
      return absl::DataLossError("page map block with a page both zero and on disk");
    }
  }
  return block;
}

}  // namespace

MapBlockBytes encode_map_header(const MapHeader& header) {
  MapBlockBytes out{};
  Writer writer(absl::MakeSpan(out));
  writer.number(uint32_t{0});  // the checksum's place
  writer.bytes(kMagic.data(), kMagic.size());
  writer.number(header.version);
  writer.bytes(header.key.bytes.data(), header.key.bytes.size());
  writer.bytes(header.incarnation.bytes.data(), header.incarnation.bytes.size());
  writer.number(header.size_bytes);
  Writer(absl::MakeSpan(out)).number(crc32c(absl::MakeConstSpan(out).subspan(sizeof(uint32_t))));
  return out;
}

absl::StatusOr<MapHeader> decode_map_header(absl::Span<const std::byte> bytes) {
  if (bytes.size() != kMapBlockSize) return absl::DataLossError("page map file is cut short");
  Reader reader(bytes);
  const uint32_t crc = reader.number<uint32_t>();
  std::array<char, kMagic.size()> magic{};
  reader.bytes(magic.data(), magic.size());
  if (std::string_view(magic.data(), magic.size()) != kMagic) {
    return absl::DataLossError("not a page map file");
  }
  if (crc != crc32c(bytes.subspan(sizeof(uint32_t)))) {
    return absl::DataLossError("page map header with a wrong checksum");
  }
  MapHeader header;
  header.version = reader.number<uint32_t>();
  if (header.version > kPageMapVersion) {
    return absl::FailedPreconditionError(fmt::format(
        "page map of version {}; this daemon knows up to {}", header.version, kPageMapVersion));
  }
  reader.bytes(header.key.bytes.data(), header.key.bytes.size());
  reader.bytes(header.incarnation.bytes.data(), header.incarnation.bytes.size());
  header.size_bytes = reader.number<uint64_t>();
  if (header.size_bytes > kMaxObjectSize) {
    return absl::DataLossError("page map of an impossible size");
  }
  return header;
}

MapBlockBytes encode_map_block(const MapBlock& block, uint64_t block_number,
                               const Incarnation& incarnation) {
  MapBlockBytes out;
  encode(block, kFullBlock, block_number, incarnation, absl::MakeSpan(out));
  return out;
}

absl::StatusOr<MapBlock> decode_map_block(absl::Span<const std::byte> bytes, uint64_t block_number,
                                          const Incarnation& incarnation) {
  return decode(bytes, kFullBlock, block_number, incarnation);
}

std::string encode_inline_map(const MapBlock& block, uint64_t size_bytes,
                              const Incarnation& incarnation) {
  const Shape shape = inline_shape(size_bytes);
  std::string out(shape.bytes(), '\0');
  encode(block, shape, 0, incarnation,
         absl::MakeSpan(reinterpret_cast<std::byte*>(out.data()), out.size()));
  return out;
}

absl::StatusOr<MapBlock> decode_inline_map(std::string_view bytes, uint64_t size_bytes,
                                           const Incarnation& incarnation) {
  if (size_bytes > kInlineMapMaxObject) {
    return absl::DataLossError("an inline page map for too large an object");
  }
  return decode(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()),
                inline_shape(size_bytes), 0, incarnation);
}

}  // namespace blobcache::page
