#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/object.h"
#include "store/page/object_key.h"

namespace blobcache::page {

class DiskTier;

/// The descriptors of one object: its data and its page map (none for an inline map, or when the
/// map is missing). Closed when the last holder lets go.
struct OpenFiles {
  base::UniqueFd data;
  base::UniqueFd map;
  /// When the data was last written to, as of the opening; 0 of a cached object, whose file changes
  /// all the time.
  int64_t written_ns = 0;
};
using OpenFilesRef = std::shared_ptr<const OpenFiles>;

/// A file's time of modification, in nanoseconds since 1970.
[[nodiscard]] inline int64_t written_ns(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

/// The files of one object in use: opened when they are needed, closed again when many others are
/// (see OpenFileTable), and kept open once their names go, so that readers who hold the object go
/// on reading. Thread-safe.
class ObjectFile {
 public:
  ObjectFile(DiskTier& disk, const ObjectSpec& spec)
      : disk_(disk),
        key_(spec.key),
        incarnation_(spec.incarnation),
        size_bytes_(spec.size_bytes),
        in_cache_(spec.in_cache),
        has_map_(spec.inline_map.empty()) {}
  ~ObjectFile();
  ObjectFile(const ObjectFile&) = delete;
  ObjectFile& operator=(const ObjectFile&) = delete;

  /// The open files, for as long as the reference is held; a cached object's for writing, too.
  /// DATA_LOSS for a data file that is gone or larger than the object, NOT_FOUND for a cached
  /// object of which nothing is on disk, else the disk's error.
  [[nodiscard]] absl::StatusOr<OpenFilesRef> open() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Opens the files and never closes them before this dies: their names are about to go.
  [[nodiscard]] absl::Status keep_open() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Descriptors of the files, for another process; invalid where there is none to be opened. They
  /// stay open here.
  [[nodiscard]] base::UniqueFd duplicate_data() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] base::UniqueFd duplicate_map() ABSL_LOCKS_EXCLUDED(mutex_);
  /// These are the files, and stay open, unless others are open already.
  void take(base::UniqueFd data, base::UniqueFd map) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Who opens from now on gets `map`, one that was made again.
  void replace_map(const OpenFilesRef& open, base::UniqueFd map) ABSL_LOCKS_EXCLUDED(mutex_);

  /// For OpenFileTable: whether they were opened since the last call, and closing them (false when
  /// they must stay open).
  [[nodiscard]] bool take_used() { return used_.exchange(false, std::memory_order_relaxed); }
  bool close() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] std::filesystem::path path() const;
  [[nodiscard]] absl::StatusOr<OpenFilesRef> open_now();
  [[nodiscard]] absl::Status lost(const char* how) const;
  void note_loss(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DiskTier& disk_;
  const ObjectKey key_;
  const Incarnation incarnation_;
  const uint64_t size_bytes_;
  const bool in_cache_;
  const bool has_map_;
  std::atomic<bool> used_{false};
  absl::Mutex mutex_;  ///< a leaf: nothing is called out to under it
  OpenFilesRef open_ ABSL_GUARDED_BY(mutex_);
  bool stays_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool loss_logged_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::page
