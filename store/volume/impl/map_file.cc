#include "store/volume/impl/map_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <optional>
#include <utility>

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

MapFile::MapFile(const FileCalls& calls, Place place, const page::Incarnation& incarnation)
    : calls_(calls),
      path_(std::move(place.path)),
      is_sparse_(place.is_sparse),
      incarnation_(incarnation),
      file_(std::move(place.file)),
      fd_(file_.get()) {}

absl::StatusOr<StoredBlock> MapFile::load(uint64_t number, uint64_t completed,
                                          bool may_be_torn) const {
  std::array<std::byte, 2 * kBlockSize> bytes{};
  const int fd = fd_.load();
  if (fd >= 0) {
    const uint64_t offset = number * bytes.size();
    const absl::Span<std::byte> all = absl::MakeSpan(bytes);
    BLOBCACHE_RETURN_IF_ERROR(is_sparse_ ? calls_.read_or_zeros(fd, all, offset)
                                         : calls_.read(fd, all, offset));
  }
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

absl::StatusOr<std::vector<uint64_t>> MapFile::stored_blocks(uint64_t first) const {
  std::vector<uint64_t> blocks;
  const int fd = fd_.load();
  if (fd < 0) return blocks;
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, calls_.size_of(fd));
  for (uint64_t number = first; number * 2 * kBlockSize < size; ++number) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<uint64_t> data,
                               calls_.next_data(fd, number * 2 * kBlockSize));
    if (!data) break;
    number = *data / (2 * kBlockSize);
    blocks.push_back(number);
  }
  return blocks;
}

absl::Status MapFile::make() {
  if (exists()) return absl::OkStatus();
  const absl::MutexLock lock(&making_);
  if (exists()) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(file_, calls_.open(path_, O_RDWR | O_CREAT));
  // A header that tells of a checkpoint must not be on disk without it.
  BLOBCACHE_RETURN_IF_ERROR(calls_.sync_folder(parent_of(path_)));
  fd_.store(file_.get());
  return absl::OkStatus();
}

absl::Status MapFile::resize(uint64_t size_bytes) const {
  BLOBCACHE_RETURN_IF_ERROR(calls_.truncate(fd_.load(), bytes_for(size_bytes)));
  return calls_.sync_all(fd_.load());
}

absl::Status MapFile::allocate(uint64_t number) const {
  return calls_.allocate(fd_.load(), number * 2 * kBlockSize, 2 * kBlockSize);
}

absl::Status MapFile::store(uint64_t number, const page::MapBlock& states, uint64_t checkpoint,
                            uint64_t copy) const {
  return calls_.write(fd_.load(), encode_volume_block(states, number, checkpoint, incarnation_),
                      (number * 2 + copy) * kBlockSize);
}

}  // namespace blobcache::volume
