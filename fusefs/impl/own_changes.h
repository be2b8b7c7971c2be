#pragma once

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// Which changes of the tree are this mount's own doing. The kernel that asked for a change knows
/// of it from the answer, so that to tell it once more takes time and may throw away what it has
/// cached since; other mounts are told.
///
/// Names change on the thread that was asked to change them: a Marker is enough. Bytes may be
/// written on any thread: such a change is known by its place. Two mounts that write the same place
/// at once are told of one of both changes, which is all that a kernel needs to forget the place.
///
/// Thread-safe.
class OwnChanges {
 public:
  /// A change of bytes that is under way. Value type.
  struct Change {
    tree::NodeId node = 0;
    uint64_t offset = 0;
    uint64_t length = 0;

    friend bool operator==(const Change&, const Change&) = default;
  };

  /// What this thread changes while it lives is the mount's own. Markers of one thread nest.
  class Marker {
   public:
    explicit Marker(const OwnChanges& changes);
    ~Marker();
    Marker(const Marker&) = delete;
    Marker& operator=(const Marker&) = delete;

   private:
    const OwnChanges* const before_;
  };

  /// Whether a Marker of this mount is on this thread.
  [[nodiscard]] bool by_this_thread() const;

  /// Bytes are about to be changed.
  void begin(const Change& change);
  /// They have been, and everybody has been told.
  void end(const Change& change);
  /// Whether this change, which somebody was told of, is one of those under way. It is not any more
  /// when this is asked again.
  [[nodiscard]] bool take(const Change& change);

 private:
  [[nodiscard]] bool remove(const Change& change);

  absl::Mutex mutex_;
  std::vector<Change> under_way_ ABSL_GUARDED_BY(mutex_);  // as many as the kernel has writes
};

}  // namespace blobcache::fusefs
