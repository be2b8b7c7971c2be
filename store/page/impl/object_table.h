#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/object_impl.h"
#include "store/page/object.h"

namespace blobcache::page {

/// The objects in use, and some that were lately: those stay, so that what memory holds of them is
/// found by who opens them next. One object for each key and incarnation. Thread-safe.
class ObjectTable {
 public:
  /// Objects that nobody holds go when the extents of all take more than `idle_extent_bytes`.
  explicit ObjectTable(uint64_t idle_extent_bytes)
      : idle_extent_bytes_(idle_extent_bytes), next_look_bytes_(idle_extent_bytes) {}

  /// The object that `spec` names, made from it when it is not here.
  [[nodiscard]] std::shared_ptr<ObjectImpl> attach(const ObjectSpec& spec, StoreCore& core)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// The object, or nullptr when it is not here.
  [[nodiscard]] std::shared_ptr<ObjectImpl> find(const ObjectKey& key,
                                                 const Incarnation& incarnation) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Whether somebody has the object besides the table.
  [[nodiscard]] bool is_held(const ObjectKey& key, const Incarnation& incarnation) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Takes the object out, for who is about to remove it; nullptr when it is not here.
  [[nodiscard]] std::shared_ptr<ObjectImpl> take(const ObjectKey& key,
                                                 const Incarnation& incarnation)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Takes the object out unless somebody has it. False when somebody does.
  [[nodiscard]] bool take_idle(const ObjectKey& key, const Incarnation& incarnation)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void clear() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Id = std::pair<ObjectKey, decltype(Incarnation::bytes)>;

  using Objects = std::vector<std::shared_ptr<ObjectImpl>>;

  /// Takes a quarter of the objects that nobody holds out of the table, so that what they take
  /// stays bounded; those first that have nothing in memory. When everybody is held the table
  /// grows: the doors bound how many they hold.
  [[nodiscard]] Objects drop_idle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Takes out those that nobody holds and that have nothing in memory, until the extents of all,
  /// `bytes` now, take three quarters of what they may.
  [[nodiscard]] Objects drop_extents(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  /// About half a kilobyte each.
  static constexpr size_t kMaxIdle = 32768;

  const uint64_t idle_extent_bytes_;
  mutable absl::Mutex mutex_;  ///< never held while an object dies
  /// When drop_extents() is worth its walk again.
  uint64_t next_look_bytes_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<Id, std::shared_ptr<ObjectImpl>> objects_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
