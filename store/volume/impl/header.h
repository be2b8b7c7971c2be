#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"
#include "store/volume/boot_id.h"
#include "store/volume/impl/file_calls.h"

namespace blobcache::volume {

inline constexpr uint32_t kImageVersion = 1;
inline constexpr uint32_t kFileVersion = 2;
inline constexpr size_t kHeaderSize = 4096;
/// Of both copies; behind them a file volume has its journal.
inline constexpr uint64_t kHeaderFileBytes = 2 * kHeaderSize;

/// What a volume's `header` tells; the format is in docs/disk-format.md. Value type.
struct Header {
  page::Incarnation incarnation;
  uint64_t size_bytes = 0;
  uint64_t has_base = 0;  ///< 0 or 1
  page::ObjectKey base;
  uint64_t base_bytes = 0;
  BootId boot_id;           ///< all zeros: of a file volume that was closed, and not opened since
  uint64_t checkpoint = 0;  ///< the number of the last one that was completed
  uint64_t journal_start = 1;  ///< records before this one are in the map
  uint64_t data_pages = 0;     ///< as of that checkpoint
  uint64_t is_file = 0;        ///< 0 or 1; see Volume::create_file
  uint64_t is_stale = 0;       ///< 0 or 1; see FileLength

  friend bool operator==(const Header&, const Header&) = default;
};

using HeaderBytes = std::array<std::byte, kHeaderSize>;

/// `sequence` counts the writes of a header, so that of two copies the later one is known.
[[nodiscard]] HeaderBytes encode_header(const Header& header, uint64_t sequence);
/// DATA_LOSS for anything but a whole header with a right checksum, FAILED_PRECONDITION for a newer
/// version. What it says is in bounds.
[[nodiscard]] absl::StatusOr<Header> decode_header(absl::Span<const std::byte> bytes,
                                                   uint64_t& sequence);

/// The file `header`: two copies of the header, written one after the other with a sync between
/// them. So one is whole at any time, and either may be lost later: at rest they are the same.
///
/// One thread at a time.
class HeaderFile {
 public:
  HeaderFile(const FileCalls& calls, int fd) : calls_(calls), fd_(fd) {}

  /// The newer of the copies that are whole.
  [[nodiscard]] absl::StatusOr<Header> read();
  /// The first header of a new file: one copy, and not synced.
  [[nodiscard]] absl::Status begin(const Header& header);
  /// Durably. After an error the file may have the old header or the new one.
  [[nodiscard]] absl::Status write(const Header& header);

 private:
  const FileCalls& calls_;
  const int fd_;
  uint64_t sequence_ = 0;
  uint64_t newest_ = 1;  ///< the copy that is known to be whole
};

}  // namespace blobcache::volume
