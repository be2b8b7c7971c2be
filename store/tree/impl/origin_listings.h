#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/impl/origin_listing.h"
#include "store/tree/namespace.h"
#include "store/tree/origin.h"

namespace blobcache::tree {

/// The directories of origins that are being walked, or were lately. A walk begins with what is
/// there then and goes on in that, or in what a later walk's beginning found.
///
/// Bounded by entries: the listings that were not used for the longest go first. A walk that goes
/// on in one that is gone asks the origin again, and finds its place as long as the directory is as
/// it was when it was first listed.
///
/// Thread-safe; no lock is held while the origin is asked.
class OriginListings {
 public:
  /// Two full directories.
  static constexpr size_t kMostEntries = 2 * kMaxOriginEntries;

  using Ask = absl::FunctionRef<absl::StatusOr<std::vector<OriginEntry>>()>;

  explicit OriginListings(size_t most_entries = kMostEntries) : most_entries_(most_entries) {}

  /// Up to `limit` entries of the directory after the one with number `after`, 0: from the start.
  /// `ask` gives what the origin has now; its errors are returned.
  [[nodiscard]] absl::StatusOr<std::vector<OriginListing::Numbered>> list(NodeId directory,
                                                                          uint64_t after,
                                                                          size_t limit, Ask ask)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    OriginListing listing;
    std::list<NodeId>::iterator place;
  };

  [[nodiscard]] bool knows(NodeId directory) ABSL_LOCKS_EXCLUDED(mutex_);
  Slot& slot_of(NodeId directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void update(NodeId directory, std::vector<OriginEntry> entries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_entries_;
  absl::Mutex mutex_;
  absl::flat_hash_map<NodeId, Slot> listings_ ABSL_GUARDED_BY(mutex_);
  std::list<NodeId> by_use_ ABSL_GUARDED_BY(mutex_);  ///< the last used one first
  size_t entries_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::tree
