#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "store/page/page_store.h"

namespace blobcache::volume {

/// The folder that has the name of `path`.
[[nodiscard]] std::filesystem::path parent_of(const std::filesystem::path& path);

/// A volume's system calls. Each is a step that a test can fail, and is taken again when a signal
/// ends it. Thread-safe.
class FileCalls {
 public:
  explicit FileCalls(page::DiskFault fault) : fault_(std::move(fault)) {}

  /// As open(2), with close-on-exec and, of a new file, mode 0600. Errors name the path.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> open(const std::filesystem::path& path,
                                                    int flags) const;
  [[nodiscard]] absl::Status make_folder(const std::filesystem::path& path) const;
  [[nodiscard]] absl::Status rename(const std::filesystem::path& from,
                                    const std::filesystem::path& to) const;
  [[nodiscard]] absl::Status unlink(const std::filesystem::path& path) const;
  /// An empty one.
  [[nodiscard]] absl::Status remove_folder(const std::filesystem::path& path) const;
  [[nodiscard]] absl::Status truncate(int fd, uint64_t bytes) const;

  /// Fills `into`; DATA_LOSS where the file ends before it.
  [[nodiscard]] absl::Status read(int fd, absl::Span<std::byte> into, uint64_t offset) const;
  /// The same, with zeros where the file ends before it.
  [[nodiscard]] absl::Status read_or_zeros(int fd, absl::Span<std::byte> into,
                                           uint64_t offset) const;
  /// The same from the kernel's memory alone. False when the bytes are not there, or cannot be had
  /// that way. Always false where a test fails steps, so that it sees all reads.
  [[nodiscard]] bool read_now(int fd, absl::Span<std::byte> into, uint64_t offset) const;
  [[nodiscard]] bool can_read_now() const { return !fault_ && nowait_.load() != Nowait::kNone; }
  [[nodiscard]] absl::StatusOr<uint64_t> size_of(int fd) const;
  /// The first byte from `offset` on that is in no hole; absent: there is none.
  [[nodiscard]] absl::StatusOr<std::optional<uint64_t>> next_data(int fd, uint64_t offset) const;
  /// Writes all of `from`; after an error any part of it may be written.
  [[nodiscard]] absl::Status write(int fd, absl::Span<const std::byte> from, uint64_t offset) const;
  /// Gives the space back. OK where the file system has no holes: the space stays taken.
  [[nodiscard]] absl::Status punch_hole(int fd, uint64_t offset, uint64_t bytes) const;
  /// Takes space that reads as zeros. OK where the file system cannot.
  [[nodiscard]] absl::Status allocate(int fd, uint64_t offset, uint64_t bytes) const;

  /// fdatasync(2): the content, and what it takes to find it.
  [[nodiscard]] absl::Status sync(int fd) const;
  /// fsync(2), of a file that is new or of a folder.
  [[nodiscard]] absl::Status sync_all(int fd) const;
  [[nodiscard]] absl::Status sync_folder(const std::filesystem::path& path) const;

 private:
  /// `call` as a system call, unless the test has something else to say: its result, or a negative
  /// errno value.
  template <typename Call>
  [[nodiscard]] int64_t take(const page::DiskStep& step, const Call& call) const;

  const page::DiskFault fault_;
  /// How the file system reads without waiting.
  enum class Nowait : uint8_t {
    kFlag,    ///< when it is told to
    kAlways,  ///< it is in memory
    kNone,
  };
  mutable std::atomic<Nowait> nowait_{Nowait::kFlag};
};

}  // namespace blobcache::volume
