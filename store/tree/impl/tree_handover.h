#pragma once

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/parcel.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/inode_table.h"
#include "store/tree/impl/origin_set.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// Blobs that are in no catalog any more, of the process before: whose doors had them open and open
/// them here again, by their nodes. Thread-safe.
class HeldBlobs {
 public:
  void note(NodeId node, page::ObjectRef object) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    objects_[node] = std::move(object);
  }
  /// `found`, or in the place of NOT_FOUND the blob that is held under this node.
  [[nodiscard]] absl::StatusOr<page::ObjectRef> or_held(NodeId node,
                                                        absl::StatusOr<page::ObjectRef> found) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  void clear() ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    objects_.clear();
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<NodeId, page::ObjectRef> objects_ ABSL_GUARDED_BY(mutex_);
};

/// The parts of a namespace that have what is in no catalog.
struct HandedParts {
  Catalog& catalog;
  page::PageStore& store;
  InodeTable& inodes;
  OriginSet& origins;
};

/// As Namespace::hand_over.
[[nodiscard]] absl::StatusOr<base::Parcel> pack_tree(const HandedParts& parts,
                                                     const std::vector<OpenNode>& open);

/// What that gave in the process before, unpacked. Moves, never copies.
struct TreeHandover {
  std::vector<InodeTable::HandedFile> files;
  std::vector<std::pair<NodeId, page::HeldObject>> blobs;
  base::Parcel origins;

  /// Empty for null; DATA_LOSS for a parcel that is damaged.
  [[nodiscard]] static absl::StatusOr<TreeHandover> read(const base::Parcel* parcel);
  /// The volumes of `files`.
  [[nodiscard]] std::vector<page::Incarnation> volumes() const;
  /// Gives the parts what is theirs. A file that cannot be had again is logged.
  [[nodiscard]] absl::Status give(const HandedParts& parts, HeldBlobs& held) &&;
};

}  // namespace blobcache::tree
