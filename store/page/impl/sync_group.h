#pragma once

#include <filesystem>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/impl/counters.h"

namespace blobcache::page {

/// Makes new files durable, those of several writers at once.
///
/// A writer alone syncs its files and their directory. Writers that come while others are being
/// synced wait for the next turn, and when there are several the first of them syncs the whole file
/// system once for all (syncfs(2)): two syncs for a batch of any size, this one and the catalog's,
/// in place of three for each. The price is that what other programs have dirty on that file system
/// is written too.
///
/// Thread-safe; blocks. No thread of its own: the first of those who wait does the work of all.
class SyncGroup {
 public:
  /// What is to be durable: open files whose bytes are written, and the directory of their names.
  struct Files {
    std::vector<int> fds;
    std::filesystem::path directory;
  };

  /// `root` is a directory of the file system; `counters` outlives this.
  SyncGroup(base::UniqueFd root, Counters& counters)
      : root_(std::move(root)), counters_(counters) {}

  /// Returns when the files are durable, or why they are not.
  [[nodiscard]] absl::Status sync(const Files& files) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// From so many on one sync of the file system is less work than the files' own.
  static constexpr size_t kManyWriters = 3;

  struct Waiting {
    const Files& files;
    absl::Status status;
    bool done = false;  // guarded by mutex_
  };

  [[nodiscard]] absl::Status sync_files(const Files& files);
  [[nodiscard]] absl::Status sync_file_system();
  void sync_batch(const std::vector<Waiting*>& batch);

  const base::UniqueFd root_;
  Counters& counters_;
  absl::Mutex mutex_;
  bool leading_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Waiting*> waiting_ ABSL_GUARDED_BY(mutex_);
};

/// Syncs a directory, so that names made or removed in it are durable. Counts as one sync.
[[nodiscard]] absl::Status sync_directory(const std::filesystem::path& path, Counters& counters);

}  // namespace blobcache::page
