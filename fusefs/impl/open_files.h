#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {

/// What one open(2) holds: the object, which stays readable when its name is gone, or the image,
/// and what its node looked like, for fstat(2) after that. Immutable.
struct OpenFile {
  page::ObjectRef object;                ///< of a file
  std::shared_ptr<volume::Image> image;  ///< of an image
  tree::Node node;
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
  /// Closes. A handle that is not open is left alone.
  void remove(uint64_t handle);
  /// Closes all: the mount has ended.
  void clear();

  /// A file of this node, if any handle to it is open. Slow (looks at all of them): for nodes that
  /// the tree no longer has.
  [[nodiscard]] std::optional<OpenFile> find(tree::NodeId id) const;
  [[nodiscard]] size_t size() const;

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<const OpenFile>> files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
