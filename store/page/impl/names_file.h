#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "store/page/impl/disk_calls.h"
#include "store/page/object_key.h"

namespace blobcache::page {

// The names file of an object, "KEY.ID.names": text, a checksum and a record a line. The format is
// in docs/disk-format.md. A line's checksum covers the object's key and the line's place, so
// neither a part of another object's file nor one that was moved passes. What the records say is
// their owner's affair.

/// A longer line is no line of ours; a path of 4,096 bytes takes three times as many when every
/// one of them must be encoded.
inline constexpr size_t kMaxNamesLine = size_t{16} << 10;
/// A larger file is not read, nor is one made.
inline constexpr uint64_t kMaxNamesFile = uint64_t{4} << 30;
/// Bytes of the first line, which every names file has.
inline constexpr size_t kNamesHeaderSize = 112;

/// The first line. `whole_bytes` is the file's size when it was last written whole.
[[nodiscard]] std::string names_header(const ObjectKey& key, uint64_t whole_bytes);
/// Reads it back; DATA_LOSS with the reason for another one.
[[nodiscard]] absl::StatusOr<uint64_t> parse_names_header(std::string_view line,
                                                          const ObjectKey& key);
/// The line of `record`, which has no newline, at `offset` of the file.
[[nodiscard]] std::string names_line(const ObjectKey& key, uint64_t offset,
                                     std::string_view record);

/// Takes a names file apart, piece by piece as it is read. Never trusts it, and holds a line of it
/// at a time. A damaged line costs itself; a damaged first line, everything. One thread.
class NamesFileParser {
 public:
  /// `visit` must live as long as this.
  NamesFileParser(const ObjectKey& key, absl::FunctionRef<void(std::string_view record)> visit)
      : key_(key), visit_(visit) {}

  void feed(std::string_view bytes);
  /// After the last piece. DATA_LOSS with the first reason when something was not right.
  [[nodiscard]] absl::Status finish();

 private:
  void take_line();
  void damaged(std::string_view why);

  const ObjectKey key_;
  const absl::FunctionRef<void(std::string_view)> visit_;
  std::string begun_;         ///< a line without its end
  bool too_long_ = false;     ///< the line that is begun is passed over
  uint64_t line_offset_ = 0;  ///< where the line that is begun begins
  bool has_header_ = false;   ///< the first line is behind us
  bool refused_ = false;      ///< and was none of ours
  absl::Status status_;
};

/// Reads the whole of an open names file. As NamesFileParser; the disk's error if it fails.
[[nodiscard]] absl::Status read_names_file(const DiskCalls& calls, int fd, const ObjectKey& key,
                                           absl::FunctionRef<void(std::string_view record)> visit);

/// Writes a new names file, a quarter of a mebibyte at a time. One thread.
class NamesFileWriter {
 public:
  /// Makes the file; it must not be there. `calls` must live as long as this.
  [[nodiscard]] static absl::StatusOr<NamesFileWriter> create(const std::filesystem::path& path,
                                                              const ObjectKey& key,
                                                              const DiskCalls& calls);

  /// RESOURCE_EXHAUSTED when there is no room or the file would be too large. After an error only
  /// destruction is allowed.
  [[nodiscard]] absl::Status add(std::string_view record);
  /// Writes what is left, and the first line. Gives the file away, which is not synced.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> finish();

 private:
  NamesFileWriter(base::UniqueFd fd, const ObjectKey& key, const DiskCalls& calls);
  [[nodiscard]] absl::Status flush();

  base::UniqueFd fd_;
  ObjectKey key_;
  const DiskCalls* calls_;
  std::string buffer_;
  uint64_t flushed_ = 0;
};

/// Adds records to the end of a names file (open for reading and writing). False, with the file as
/// it was, when it should be written whole instead: it is none of ours, was cut short, or has grown
/// to twice of what it was. After an error the file is as it was, as far as the disk lets us.
[[nodiscard]] absl::StatusOr<bool> append_to_names_file(const DiskCalls& calls, int fd,
                                                        const ObjectKey& key,
                                                        absl::Span<const std::string> records);

}  // namespace blobcache::page
