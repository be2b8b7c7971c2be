#pragma once

#include <cstddef>
#include <list>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::page {

class ObjectFile;

/// Bounds how many objects have their files open: beyond the limit those go that were not used
/// lately (CLOCK). However many objects are in use, the doors keep descriptors for their sockets.
/// Thread-safe. Lock order: this before an ObjectFile's.
class OpenFileTable {
 public:
  /// `limit` objects, each of up to two descriptors; at least 1.
  explicit OpenFileTable(size_t limit) : limit_(limit) {}

  /// `file` was opened; closes others when there are too many.
  void add(ObjectFile* file) ABSL_LOCKS_EXCLUDED(mutex_);
  /// `file` dies.
  void remove(ObjectFile* file) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Closes a quarter of them: the process is short of descriptors. False when there was none.
  bool close_some() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] size_t size() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// Closes one; false when there is none that may be closed.
  bool close_one() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t limit_;
  absl::Mutex mutex_;
  std::list<ObjectFile*> clock_ ABSL_GUARDED_BY(mutex_);  ///< the hand is at the front
  absl::flat_hash_map<ObjectFile*, std::list<ObjectFile*>::iterator> place_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
