#pragma once

#include <memory>
#include <optional>
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
/// them here again, by their nodes. And leases of what its doors had lent. Thread-safe.
class HeldBlobs {
 public:
  void note(NodeId node, page::ObjectRef object) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    objects_[node] = std::move(object);
  }
  void note_lease(NodeId node, const page::LentObject& object, std::shared_ptr<const void> lease)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    leases_[node] = std::move(lease);
    lent_[node] = object;
  }
  /// What was noted of a node, ever: who has it open may not have opened its object again.
  [[nodiscard]] std::optional<page::LentObject> lent(NodeId node) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    const auto at = lent_.find(node);
    return at == lent_.end() ? std::nullopt : std::optional(at->second);
  }
  /// Once; null for others.
  [[nodiscard]] std::shared_ptr<const void> take_lease(NodeId node) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    const auto at = leases_.find(node);
    return at == leases_.end() ? nullptr : std::exchange(at->second, nullptr);
  }
  /// `found`, or in the place of NOT_FOUND the blob that is held under this node.
  [[nodiscard]] absl::StatusOr<page::ObjectRef> or_held(NodeId node,
                                                        absl::StatusOr<page::ObjectRef> found) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  void clear() ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    objects_.clear();
    leases_.clear();
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<NodeId, page::ObjectRef> objects_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<NodeId, std::shared_ptr<const void>> leases_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<NodeId, page::LentObject> lent_ ABSL_GUARDED_BY(mutex_);
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
                                                     const HeldBlobs& held,
                                                     const std::vector<OpenNode>& open);

/// What that gave in the process before, unpacked. Moves, never copies.
struct TreeHandover {
  std::vector<InodeTable::HandedFile> files;
  std::vector<std::pair<NodeId, page::HeldObject>> blobs;
  std::vector<std::pair<NodeId, page::LentObject>> lent;  ///< of origins
  base::Parcel origins;

  /// Empty for null; DATA_LOSS for a parcel that is damaged.
  [[nodiscard]] static absl::StatusOr<TreeHandover> read(const base::Parcel* parcel);
  /// The volumes of `files`.
  [[nodiscard]] std::vector<page::Incarnation> volumes() const;
  /// Gives the parts what is theirs. A file that cannot be had again is logged.
  [[nodiscard]] absl::Status give(const HandedParts& parts, HeldBlobs& held) &&;
};

}  // namespace blobcache::tree
