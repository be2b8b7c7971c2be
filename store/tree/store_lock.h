#pragma once

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace blobcache::tree {

/// Keeps a second daemon off a store, for as long as it lives. The kernel lets go of it when the
/// process dies, however it dies. The file stays: to remove it would let two daemons lock two files
/// of one name.
///
/// The page store cleans its directory when it is opened, so a daemon takes the lock before that
/// and hands it to the namespace (NamespaceOptions::lock).
class StoreLock {
 public:
  /// Locks `directory`/lock and writes our process id into it. UNAVAILABLE, naming the holder's
  /// process id, when another open store holds it; FAILED_PRECONDITION when `directory` is no
  /// directory; else why it cannot be written.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<StoreLock>> acquire(
      const std::filesystem::path& directory);

  /// Use acquire(). `fd` is locked.
  explicit StoreLock(base::UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  const base::UniqueFd fd_;
};

}  // namespace blobcache::tree
