#pragma once

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/parcel.h"
#include "base/unique_fd.h"

namespace blobcache::tree {

/// Keeps a second daemon off a store, for as long as it lives. The kernel lets go of it when the
/// process dies, however it dies. The directory is locked as well, in case somebody removes the
/// file; the file tells who holds it, and no longer once he ends as he should.
///
/// The page store cleans its directory when it is opened, so a daemon takes the lock before that
/// and hands it to the namespace (NamespaceOptions::lock).
class StoreLock {
 public:
  /// Locks `directory` and `directory`/lock, and writes our process id into it. UNAVAILABLE, naming
  /// the holder's process id, when another open store holds it; FAILED_PRECONDITION when
  /// `directory` is no directory; else why it cannot be written.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<StoreLock>> acquire(
      const std::filesystem::path& directory);

  /// The lock of the process before, which handed it over: nobody else can have had it meanwhile.
  /// Else as acquire().
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<StoreLock>> take_over(
      base::ParcelReader& parcel);
  /// For the process that takes over. The store stays locked as long as the parcel is there.
  [[nodiscard]] absl::Status hand_over(base::ParcelWriter& parcel) const;

  /// Use acquire(). Both are locked.
  StoreLock(base::UniqueFd file, base::UniqueFd directory, bool ended_cleanly)
      : file_(std::move(file)), directory_(std::move(directory)), ended_cleanly_(ended_cleanly) {}
  ~StoreLock();
  StoreLock(const StoreLock&) = delete;
  StoreLock& operator=(const StoreLock&) = delete;

  /// Whether the holder before us let go of it by itself, or there was none.
  [[nodiscard]] bool ended_cleanly() const { return ended_cleanly_; }

 private:
  const base::UniqueFd file_;
  const base::UniqueFd directory_;
  const bool ended_cleanly_;
};

}  // namespace blobcache::tree
