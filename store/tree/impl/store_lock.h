#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace blobcache::tree {

/// Keeps a second daemon off a store, for as long as it lives. The kernel lets go of it when the
/// process dies, however it dies. The file stays: to remove it would let two daemons lock two files
/// of one name.
class StoreLock {
 public:
  /// Locks `directory`/lock and writes our process id into it. UNAVAILABLE, naming the holder's
  /// process id, when another open store holds it; FAILED_PRECONDITION when `directory` is no
  /// directory; else why it cannot be written.
  [[nodiscard]] static absl::StatusOr<StoreLock> acquire(const std::filesystem::path& directory);

 private:
  explicit StoreLock(base::UniqueFd fd) : fd_(std::move(fd)) {}

  base::UniqueFd fd_;
};

}  // namespace blobcache::tree
