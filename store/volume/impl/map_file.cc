#include "store/volume/impl/map_file.h"

#include <fmt/format.h>

#include <array>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/geometry.h"
#include "store/volume/impl/bytes.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kBlockSize = page::kMapBlockSize;

uint32_t block_crc(absl::Span<const std::byte> bytes, const page::Incarnation& incarnation) {
  const uint32_t seed = page::crc32c(absl::MakeConstSpan(
      reinterpret_cast<const std::byte*>(incarnation.bytes.data()), incarnation.bytes.size()));
  return page::crc32c(bytes.subspan(sizeof(uint32_t)), seed);
}

bool states_agree(const page::MapBlock& states) {
  for (size_t i = 0; i < page::kExtentsPerMapBlock; ++i) {
    if ((states.on_disk.at(i) & states.zero.at(i)) != 0) return false;
  }
  return true;
}

}  // namespace

page::MapBlockBytes encode_volume_block(const page::MapBlock& states, uint64_t number,
                                        uint64_t checkpoint, const page::Incarnation& incarnation) {
  page::MapBlockBytes bytes{};
  const absl::Span<std::byte> out = absl::MakeSpan(bytes);
  size_t at = put(out, 4, static_cast<uint32_t>(number));
  at = put(out, at, checkpoint);
  at = put(out, at, states.on_disk);
  at = put(out, at, states.zero);
  put(out, at, states.checksum);
  put(out, 0, block_crc(bytes, incarnation));
  return bytes;
}

bool decode_volume_block(absl::Span<const std::byte> bytes, uint64_t number,
                         const page::Incarnation& incarnation, StoredBlock& block) {
  if (bytes.size() != kBlockSize) return false;
  if (page::is_zero(bytes)) {
    block.states = page::MapBlock();
    block.checkpoint = 0;
    return true;
  }
  uint32_t crc = 0;
  uint32_t stored_number = 0;
  take(bytes, 0, crc);
  if (crc != block_crc(bytes, incarnation)) return false;
  size_t at = take(bytes, 4, stored_number);
  at = take(bytes, at, block.checkpoint);
  at = take(bytes, at, block.states.on_disk);
  at = take(bytes, at, block.states.zero);
  take(bytes, at, block.states.checksum);
  return stored_number == number && block.checkpoint > 0 && states_agree(block.states);
}

uint64_t data_pages_of(const page::MapBlock& states) {
  uint64_t pages = 0;
  for (const page::PageMask word : states.on_disk) pages += page::page_total(word);
  return pages;
}

absl::StatusOr<StoredBlock> MapFile::load(uint64_t number, uint64_t completed,
                                          bool may_be_torn) const {
  std::array<std::byte, 2 * kBlockSize> bytes{};
  BLOBCACHE_RETURN_IF_ERROR(calls_.read(fd_, absl::MakeSpan(bytes), number * bytes.size()));
  StoredBlock newest;
  int whole = 0;
  for (uint64_t copy = 0; copy < 2; ++copy) {
    StoredBlock block;
    block.copy = copy;
    const auto part = absl::MakeConstSpan(bytes).subspan(copy * kBlockSize, kBlockSize);
    if (!decode_volume_block(part, number, incarnation_, block)) continue;
    ++whole;
    if (block.checkpoint <= completed && block.checkpoint >= newest.checkpoint) newest = block;
  }
  if (whole < (may_be_torn ? 1 : 2)) {
    return absl::DataLossError(fmt::format("block {} of the volume's map is damaged", number));
  }
  return newest;
}

absl::Status MapFile::allocate(uint64_t number) const {
  return calls_.allocate(fd_, number * 2 * kBlockSize, 2 * kBlockSize);
}

absl::Status MapFile::store(uint64_t number, const page::MapBlock& states, uint64_t checkpoint,
                            uint64_t copy) const {
  return calls_.write(fd_, encode_volume_block(states, number, checkpoint, incarnation_),
                      (number * 2 + copy) * kBlockSize);
}

}  // namespace blobcache::volume
