#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "net/dir_origin.h"
#include "store/page/object_key.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// What tells one version of a file from another. Value type.
struct DirStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;  ///< since 1970
  int64_t changed_ns = 0;   ///< the same

  friend bool operator==(const DirStamp&, const DirStamp&) = default;
};

/// A file that was opened for reading.
struct DirOpened {
  base::UniqueFd fd;
  DirStamp stamp;
  bool lasting = false;  ///< its stamp is old enough to tell every later change
};

/// What the origin asks of the system, for tests to put something else in its place. Value type.
struct DirSystem {
  std::function<absl::Time()> now = absl::Now;
  /// As pread(2). Any thread calls it.
  std::function<ssize_t(int fd, void* into, size_t bytes, off_t offset)> read;
};

/// The system calls of a directory origin. Each call looks for the directory anew, so that it is
/// there when it is mounted later, and resolves beneath it: no "..", no symbolic link, no other
/// mount. Calls block for as long as the file system does.
///
/// Thread-safe.
class DirFiles {
 public:
  /// A change of a file within the same tick of the file system's clock as the one before leaves no
  /// trace in its times. Two seconds is the coarsest tick there is (FAT), the rest is for clocks
  /// that differ. What changed less than this ago may be another file of the same stamp by now.
  static constexpr absl::Duration kYoung = absl::Seconds(3);

  DirFiles(const DirOriginOptions& options, DirSystem system);

  /// UNAVAILABLE for all errors that say that the directory, or its file system, cannot be had.
  [[nodiscard]] absl::StatusOr<tree::OriginEntry> look_up(const std::string& path) const;
  /// Ends early, with CANCELLED, when it is not `wanted` any more.
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> list(
      const std::string& path, const std::atomic<bool>& wanted) const;
  [[nodiscard]] absl::StatusOr<DirOpened> open(const std::string& path) const;

  /// Of a version that lasts.
  [[nodiscard]] page::ObjectKey key(std::string_view path, const DirStamp& stamp) const;
  /// The stamp as the file system has it now, whatever is cached of it.
  [[nodiscard]] static absl::StatusOr<DirStamp> stamp_of(int fd);

  [[nodiscard]] const DirSystem& system() const { return system_; }

 private:
  struct Found;

  [[nodiscard]] absl::StatusOr<base::UniqueFd> open_root() const;
  [[nodiscard]] absl::StatusOr<Found> find(const std::string& path) const;
  [[nodiscard]] bool is_lasting(const DirStamp& stamp) const;
  void describe(std::string_view path, const Found& found, tree::OriginEntry& entry) const;

  const std::string name_;
  const std::string root_;
  const std::shared_ptr<DirGuard> guard_;
  const DirSystem system_;
};

}  // namespace blobcache::net
