#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace blobcache::ctl {

/// A file that is to be put, read from its start to its end with the caller's rights: a regular
/// file (or the rest of one, on standard input), a block device, a pipe, a terminal. The holes of a
/// sparse file are handed out as zeros without being read.
///
/// One thread at a time.
class InputFile {
 public:
  /// Opens `path`; "-" is standard input. Directories are refused.
  [[nodiscard]] static absl::StatusOr<InputFile> open(const std::string& path);

  /// Bytes that read() will hand out, as far as one can know beforehand.
  [[nodiscard]] std::optional<uint64_t> size_bytes() const { return size_bytes_; }
  /// Those of them that are not in holes, as far as one can know beforehand.
  [[nodiscard]] std::optional<uint64_t> data_bytes() const { return data_bytes_; }

  /// Fills `buffer` with the next bytes, perhaps in part. 0 is the end.
  [[nodiscard]] absl::StatusOr<size_t> read(absl::Span<std::byte> buffer);

 private:
  InputFile(base::UniqueFd owned, int fd) : owned_(std::move(owned)), fd_(fd) {}

  [[nodiscard]] absl::Status look();
  [[nodiscard]] absl::Status find_stretch();
  [[nodiscard]] absl::StatusOr<size_t> read_stream(absl::Span<std::byte> buffer) const;

  base::UniqueFd owned_;  ///< not valid for standard input
  int fd_;
  std::optional<uint64_t> size_bytes_;
  std::optional<uint64_t> data_bytes_;
  /// A regular file is read by position. The stretch at offset_ ends at stretch_end_, and is a hole
  /// or data.
  bool regular_ = false;
  off_t offset_ = 0;
  off_t stretch_end_ = 0;
  bool hole_ = false;
};

}  // namespace blobcache::ctl
