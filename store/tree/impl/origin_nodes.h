#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "store/tree/namespace.h"
#include "store/tree/origin.h"

namespace blobcache::tree {

/// What a node beneath origins/ stands for. Value type.
struct OriginNode {
  std::shared_ptr<Origin> origin;
  std::string path;   ///< in the origin; "" for its top
  OriginEntry entry;  ///< as it was last seen
  absl::Time seen;    ///< when that was
};

/// Whether two entries under one path are one node: the same version of a file; any directory, and
/// any image, which is the same whatever its bytes are.
[[nodiscard]] bool same_node(const OriginEntry& a, const OriginEntry& b);

/// The numbers of what has been seen of origins. A number is made of a hash of origin, path and
/// version, so it is the same again when its node was forgotten meanwhile, and in the next process,
/// which is how `attach` knows what a device showed. (When another node has that number already the
/// next free one is taken, and may not be. Files without a strong validator have other numbers in
/// the next process, where nothing tells whether they are the same.)
///
/// Bounded by kMostBytes: then the nodes that were not asked for the longest are forgotten, and who
/// comes with their numbers is told that they are gone and looks the path up again. That is some
/// 200,000 nodes with paths of a usual length, more than a walk of a full directory.
///
/// Thread-safe.
class OriginNodes {
 public:
  static constexpr size_t kMostBytes = size_t{64} << 20;
  /// What a node takes besides its path.
  static constexpr size_t kNodeBytes = 256;

  explicit OriginNodes(size_t most_bytes = kMostBytes);

  /// The number of what was seen, which is remembered.
  [[nodiscard]] NodeId note(OriginNode node) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::optional<OriginNode> find(NodeId id) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

  /// What is remembered, for the process that takes over: there each node has its number still.
  void hand_over(base::ParcelWriter& parcel) const ABSL_LOCKS_EXCLUDED(mutex_);
  /// Before any other call; `find` has the origins by their names. What is of none is left out.
  void take_over(base::ParcelReader& parcel,
                 absl::FunctionRef<std::shared_ptr<Origin>(std::string_view)> find)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    OriginNode node;
    std::list<NodeId>::iterator place;
  };

  [[nodiscard]] static size_t bytes_of(const OriginNode& node) {
    return kNodeBytes + node.path.size() + node.entry.target.size();
  }
  void insert(NodeId id, OriginNode node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void forget_oldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_bytes_;
  uint64_t salt_ = 0;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<NodeId, Slot> nodes_ ABSL_GUARDED_BY(mutex_);
  std::list<NodeId> by_use_ ABSL_GUARDED_BY(mutex_);  ///< the last used one first
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::tree
