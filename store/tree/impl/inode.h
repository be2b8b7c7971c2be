#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/tree/files.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/turn_queue.h"
#include "store/tree/namespace.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

/// What a file is written to: the row of the catalog, and the open volume. Value type.
struct WrittenTo {
  VolumeRow row;
  std::shared_ptr<volume::Volume> volume;
  page::ObjectRef base;  ///< what the volume is over; null: nothing
};

/// What a file under writing takes of the disk: its own pages, and those that it shows of the blob
/// that it was. Nobody counts how many of these its own ones hide, so that it may be a little less;
/// never more than its length has room for.
[[nodiscard]] uint64_t allocated_bytes(const volume::Volume& volume);

/// A file beneath files/ that is in use, or that was written to and has not settled yet. InodeTable
/// has one for a node, whoever uses it.
///
/// Thread-safe.
class Inode {
 public:
  Inode(NodeId id, page::ObjectRef object) : id_(id), object_(std::move(object)) {}
  Inode(NodeId id, WrittenTo written, absl::Time modified)
      : id_(id), written_(std::move(written)), modified_ns_(absl::ToUnixNanos(modified)) {}

  [[nodiscard]] NodeId id() const { return id_; }
  /// Of the catalog's table `file`.
  [[nodiscard]] int64_t row() const { return static_cast<int64_t>(id_); }

  [[nodiscard]] File::Content content() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// Null when it is settled.
  [[nodiscard]] std::shared_ptr<volume::Volume> volume() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// Its row; of one that is not settled.
  [[nodiscard]] VolumeRow volume_row() const ABSL_LOCKS_EXCLUDED(mutex_);

  /// What its volume is over; null: nothing, or it is settled.
  [[nodiscard]] page::ObjectRef base() const ABSL_LOCKS_EXCLUDED(mutex_);

  /// The bytes are these from now on. What was under way goes on with what it began with.
  void be_written(WrittenTo written, absl::Time modified) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Returns what it was written to.
  [[nodiscard]] WrittenTo be_settled(page::ObjectRef object) ABSL_LOCKS_EXCLUDED(mutex_);

  /// What the catalog told of it last: all there is to know once its row is gone.
  void remember(const Node& node) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    remembered_ = node;
  }
  [[nodiscard]] Node remembered() const ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::ReaderMutexLock lock(&mutex_);
    return remembered_;
  }

  /// When the content last changed, of one that is not settled.
  [[nodiscard]] absl::Time modified() const { return absl::FromUnixNanos(modified_ns_.load()); }
  void set_modified(absl::Time time) { modified_ns_.store(absl::ToUnixNanos(time)); }

  // The settler's.
  std::atomic<bool> queued{false};         ///< it has an entry
  std::atomic<int64_t> rests_until_ns{0};  ///< it has not rested long enough before

  /// Whose turn it is to move the end. It may outlive the inode.
  [[nodiscard]] const std::shared_ptr<TurnQueue>& end_turns() const { return end_turns_; }

  /// Held over what makes it written or settled, which wait for the disk. Before every other lock.
  [[nodiscard]] absl::Mutex& turn() ABSL_LOCK_RETURNED(turn_) { return turn_; }

  // The table's, under its lock.
  struct Use {
    uint32_t handles = 0;      ///< who has it open
    uint32_t writers = 0;      ///< those of them that write, or are about to
    uint64_t writings = 0;     ///< how many have begun to write, ever
    uint32_t reserved = 0;     ///< handles that may begin to write
    uint32_t lent = 0;         ///< leases of the blob's file: nobody begins to write
    bool switching = false;    ///< is being made settled: nobody begins to write
    bool gone = false;         ///< the node has no name left, and no row
    bool handed_over = false;  ///< another process has it from now on
  };
  Use use;

 private:
  const NodeId id_;
  const std::shared_ptr<TurnQueue> end_turns_ = std::make_shared<TurnQueue>();
  absl::Mutex turn_;
  mutable absl::Mutex mutex_;
  page::ObjectRef object_ ABSL_GUARDED_BY(mutex_);
  WrittenTo written_ ABSL_GUARDED_BY(mutex_);
  Node remembered_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int64_t> modified_ns_{0};
};

}  // namespace blobcache::tree
