#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/gathering.h"
#include "store/page/object_writer.h"
#include "store/tree/impl/catalog_log.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/sqlite.h"

namespace blobcache::tree {

/// When a change is on stable storage.
enum class Durability : uint8_t {
  kNow,    ///< before it is answered
  kLater,  ///< with the next change that is durable at once, or by sync(); a kill takes nothing
};

/// The one way to change the catalog. Changes that arrive while an earlier one is being committed
/// share the next transaction, and so its one sync, and one sync of their new objects' files: the
/// first of the waiting threads does the work of all (no thread of its own). When several have been
/// sharing, the first waits a moment for the others; see base/gathering.h.
///
/// Each change runs within a savepoint, so that one that is refused takes nothing of the others
/// along. When the transaction as a whole fails (a full disk), its changes are tried again one by
/// one, so that each gets its own answer.
///
/// Changes that may be durable later are committed without a sync, and wait for nobody, unless they
/// come beside one that may not. The log keeps them in order: a power cut takes the last ones,
/// never one before another that stays. After a sync that failed nobody knows what the disk has,
/// and a later one would not tell: from then on nothing is called durable any more.
///
/// Thread-safe. At most one waiting change a calling thread, and at most kMaxBatch in one
/// transaction; those beyond wait for the next one.
class WriteQueue {
 public:
  static constexpr size_t kMaxBatch = 128;

  /// Makes the change, or returns why not; then what it did is undone. May be called more than
  /// once, each time in a transaction that holds nothing of the call before, and on another thread
  /// than the caller's (who waits meanwhile).
  using Apply = absl::FunctionRef<absl::Status(CatalogWriter&)>;
  /// Called once when the change is durable, before any later transaction begins and in the order
  /// of the changes. Must be quick, and must not use the queue.
  using Committed = absl::FunctionRef<void()>;

  /// Makes the files of sealed objects durable; page::PageStore::sync.
  using SyncObjects = std::function<absl::Status(absl::Span<page::ObjectWriter* const>)>;

  /// `database` must outlive the queue. Without `sync_objects` no change has an object; without
  /// `log`, the database's own, none is durable later. They must outlive the queue.
  explicit WriteQueue(Database& database, SyncObjects sync_objects = nullptr,
                      CatalogLog* log = nullptr)
      : committed_(log == nullptr ? 0 : 1),
        database_(database),
        writer_(database),
        sync_objects_(std::move(sync_objects)),
        log_commits_(database.log_commits()),
        log_(log) {}
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  /// Returns when the change is committed, and durable if it is to be (OK), or certain not to be.
  /// `object`, sealed, is made durable before the change is; then the change is durable now.
  [[nodiscard]] absl::Status run(Apply apply, Committed committed,
                                 page::ObjectWriter* object = nullptr,
                                 Durability durability = Durability::kNow)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// Every change that was answered before the call is durable when this returns OK. Costs nothing
  /// when all are; calls at the same time share one sync of the log, and changes go on meanwhile.
  [[nodiscard]] absl::Status sync() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Change {
    Apply apply;
    Committed committed;
    page::ObjectWriter* object = nullptr;
    Durability durability = Durability::kNow;
    absl::Status status;
    bool done = false;  // guarded by mutex_
  };
  using Batch = std::vector<Change*>;

  void lead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void note_committed(const Batch& batch, Durability durability)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Makes the batch's objects durable; the changes that may go on.
  [[nodiscard]] Batch sync_objects(const Batch& batch);
  void commit(const Batch& batch, Durability durability);
  absl::Status try_commit(const Batch& batch, Durability durability);
  absl::Status set_durability(Durability durability);
  absl::Status apply_one(Change& change, bool alone);

  absl::Mutex mutex_;
  std::deque<Change*> waiting_ ABSL_GUARDED_BY(mutex_);
  bool leading_ ABSL_GUARDED_BY(mutex_) = false;
  base::Gathering gathering_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_later_ ABSL_GUARDED_BY(mutex_) = 0;  ///< of waiting_, those that need no sync

  // Batches are numbered; those up to synced_ are durable. The first is what a process before us
  // may have left without a sync.
  uint64_t committed_ ABSL_GUARDED_BY(mutex_);
  uint64_t synced_ ABSL_GUARDED_BY(mutex_) = 0;
  bool syncing_ ABSL_GUARDED_BY(mutex_) = false;
  LogPosition last_ ABSL_GUARDED_BY(mutex_);     ///< where committed_ ends
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);  ///< the sync that failed

  // Used by the leading thread alone.
  Database& database_;
  CatalogWriter writer_;
  const SyncObjects sync_objects_;
  Durability set_ = Durability::kNow;  ///< what the connection is set to
  uint64_t log_commits_;               ///< the connection's, before this batch
  absl::Status failed_commit_;         ///< of this batch; not for want of room
  CatalogLog* const log_;
};

}  // namespace blobcache::tree
