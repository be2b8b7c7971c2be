#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
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
/// That of an image has its full size from the start. A file volume's is made when the first block
/// is stored, and is as long as it has to be: what is beyond its end was never written.
///
/// Thread-safe for different blocks.
class MapFile {
 public:
  /// `file`: the open one; of a file volume perhaps none, and then it is made at `path` when it is
  /// needed.
  struct Place {
    base::UniqueFd file;
    std::filesystem::path path;
    bool is_sparse = false;
  };
  MapFile(const FileCalls& calls, Place place, const page::Incarnation& incarnation);

  [[nodiscard]] static uint64_t bytes_for(uint64_t size_bytes) {
    return page::map_block_count(size_bytes) * 2 * page::kMapBlockSize;
  }

  /// The block as of checkpoint `completed`: what a later one wrote did not become valid. DATA_LOSS
  /// when it is damaged. At rest both copies must be whole, as a damaged one may be the newer. In
  /// recovery one of a block that was being written may be torn (`may_be_torn`).
  [[nodiscard]] absl::StatusOr<StoredBlock> load(uint64_t number, uint64_t completed,
                                                 bool may_be_torn) const;
  /// The blocks from `first` on that were perhaps stored, in order: those in no hole of the file.
  [[nodiscard]] absl::StatusOr<std::vector<uint64_t>> stored_blocks(uint64_t first) const;
  [[nodiscard]] bool exists() const { return fd_.load() >= 0; }

  /// Makes the file if there is none yet, and its name durable.
  [[nodiscard]] absl::Status make() ABSL_LOCKS_EXCLUDED(making_);
  /// Takes the space for both copies. The file is there, as for all that follows.
  [[nodiscard]] absl::Status allocate(uint64_t number) const;
  [[nodiscard]] absl::Status store(uint64_t number, const page::MapBlock& states,
                                   uint64_t checkpoint, uint64_t copy) const;
  [[nodiscard]] absl::Status sync() const { return calls_.sync(fd_.load()); }
  [[nodiscard]] absl::Status resize(uint64_t size_bytes) const;

 private:
  const FileCalls& calls_;
  const std::filesystem::path path_;
  const bool is_sparse_;
  const page::Incarnation incarnation_;
  absl::Mutex making_;
  base::UniqueFd file_;
  std::atomic<int> fd_;  ///< of `file_`; -1: there is none yet
};

}  // namespace blobcache::volume
