#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/tree/files.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {

/// What one open(2) holds, which stays readable when its name is gone: one of three, and what its
/// node looked like, for fstat(2) after that. Immutable.
struct OpenFile {
  tree::FileRef file;                    ///< of a file beneath files/: the same for all its opens
  std::shared_ptr<volume::Image> image;  ///< of an image
  page::ObjectRef object;                ///< of any other file
  tree::Node node;
  bool is_written = false;  ///< it was opened for writing
  bool is_counted = false;  ///< by Passthrough
  /// The kernel passes what is written on, write by write: see write_rules.
  bool is_append = false;
};

/// The open files of a mount. The kernel holds each by a handle, which it passes with every request
/// for the file and gives back with RELEASE, after the last of them has been answered. That order
/// is the kernel's promise, and it makes file() safe without a lock: a handle is as good as a
/// pointer while requests use it.
///
/// Thread-safe. Owns the files; bounded by what the kernel lets processes open.
class OpenFiles {
 public:
  /// The handle of a new open file; never 0.
  [[nodiscard]] uint64_t add(OpenFile file);
  /// The file of a handle that is open. Takes no lock.
  [[nodiscard]] static const OpenFile& file(uint64_t handle);
  /// Closes. A handle that is not open is left alone. Who closes a node's last one may wait for the
  /// disk.
  void remove(uint64_t handle);
  /// Closes all: the mount has ended.
  void clear();

  /// A file of this node, if any handle to it is open, else null.
  [[nodiscard]] std::shared_ptr<const OpenFile> find(tree::NodeId id) const;
  /// Each node of which there is an open file, once; and each that somebody may write to.
  [[nodiscard]] std::vector<tree::NodeId> nodes() const;
  [[nodiscard]] absl::flat_hash_set<tree::NodeId> written_nodes() const;
  [[nodiscard]] size_t size() const;

 private:
  struct OfNode {
    std::shared_ptr<const OpenFile> any;
    size_t handles = 0;
  };

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<const OpenFile>> files_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<tree::NodeId, OfNode> nodes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
