#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"
#include "store/page/page_map.h"
#include "store/volume/impl/file_calls.h"

namespace blobcache::volume {

/// A block of a volume's map as the file has it. Value type.
struct StoredBlock {
  page::MapBlock states;    ///< `on_disk`: the volume's own pages
  uint64_t checkpoint = 0;  ///< that wrote it; 0: never written, all pages absent
  uint64_t copy = 1;        ///< which of the two; the other one is written next
};

[[nodiscard]] page::MapBlockBytes encode_volume_block(const page::MapBlock& states, uint64_t number,
                                                      uint64_t checkpoint,
                                                      const page::Incarnation& incarnation);
/// False for anything but a whole block of this number and volume. A block of zeros was never
/// written, and tells so.
[[nodiscard]] bool decode_volume_block(absl::Span<const std::byte> bytes, uint64_t number,
                                       const page::Incarnation& incarnation, StoredBlock& block);

/// The pages of a block that are the volume's own.
[[nodiscard]] uint64_t data_pages_of(const page::MapBlock& states);

/// The file `map`: which pages are a volume's own, and their checksums. Two copies of each block,
/// of which each checkpoint writes the older one. The format is in docs/disk-format.md.
///
/// Thread-safe for different blocks.
class MapFile {
 public:
  MapFile(const FileCalls& calls, int fd, const page::Incarnation& incarnation)
      : calls_(calls), fd_(fd), incarnation_(incarnation) {}

  [[nodiscard]] static uint64_t bytes_for(uint64_t size_bytes) {
    return page::map_block_count(size_bytes) * 2 * page::kMapBlockSize;
  }

  /// The block as of checkpoint `completed`: what a later one wrote did not become valid. DATA_LOSS
  /// when it is damaged. At rest both copies must be whole, as a damaged one may be the newer. In
  /// recovery one of a block that was being written may be torn (`may_be_torn`).
  [[nodiscard]] absl::StatusOr<StoredBlock> load(uint64_t number, uint64_t completed,
                                                 bool may_be_torn) const;
  /// Takes the space for both copies.
  [[nodiscard]] absl::Status allocate(uint64_t number) const;
  [[nodiscard]] absl::Status store(uint64_t number, const page::MapBlock& states,
                                   uint64_t checkpoint, uint64_t copy) const;
  [[nodiscard]] absl::Status sync() const { return calls_.sync(fd_); }

 private:
  const FileCalls& calls_;
  const int fd_;
  const page::Incarnation incarnation_;
};

}  // namespace blobcache::volume
