#include "store/tree/impl/write_queue.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::tree {
namespace {

// Prepared, as every change has them.
constexpr const char* kBegin = "BEGIN IMMEDIATE";
constexpr const char* kCommit = "COMMIT";

}  // namespace

absl::Status WriteQueue::run(Apply apply, Committed committed, page::ObjectWriter* object,
                             Durability durability) {
  if (object != nullptr) durability = Durability::kNow;
  Change change{.apply = apply,
                .committed = committed,
                .object = object,
                .durability = durability,
                .status = {}};
  const absl::MutexLock lock(&mutex_);
  waiting_.push_back(&change);
  if (durability == Durability::kLater) ++waiting_later_;
  while (!change.done) {
    const auto my_turn = [this, &change]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return change.done || !leading_;
    };
    mutex_.Await(absl::Condition(&my_turn));
    if (!change.done) lead();
  }
  return change.status;
}

/// Commits one batch for all who wait. The lock is let go meanwhile, so that the next batch can
/// gather.
void WriteQueue::lead() {
  leading_ = true;
  const auto gathered = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_later_ > 0 || waiting_.size() >= std::min(gathering_.expected(), kMaxBatch);
  };
  mutex_.AwaitWithTimeout(absl::Condition(&gathered), gathering_.patience());
  const auto count = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kMaxBatch));
  const Batch batch(waiting_.begin(), waiting_.begin() + count);
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  const auto later =
      static_cast<size_t>(std::count_if(batch.begin(), batch.end(), [](const Change* change) {
        return change->durability == Durability::kLater;
      }));
  waiting_later_ -= later;
  const Durability durability = later == batch.size() ? Durability::kLater : Durability::kNow;
  const absl::Status broken = durability == Durability::kNow ? broken_ : absl::OkStatus();
  mutex_.Unlock();
  const absl::Time start = absl::Now();
  if (broken.ok()) {
    commit(sync_objects(batch), durability);
  } else {
    for (Change* change : batch) change->status = broken;
  }
  const absl::Duration took = absl::Now() - start;
  mutex_.Lock();
  note_committed(batch, durability);
  if (durability == Durability::kNow) gathering_.done(batch.size() - later, took);
  for (Change* change : batch) change->done = true;
  leading_ = false;
}

/// A transaction that was synced took all before it along; one whose sync failed may have lost
/// them.
void WriteQueue::note_committed(const Batch& batch, Durability durability) {
  const bool any = std::any_of(batch.begin(), batch.end(),
                               [](const Change* change) { return change->status.ok(); });
  if (any) ++committed_;
  // A transaction that changed nothing was not written, and synced nothing.
  const uint64_t log_commits = database_.log_commits();
  const bool wrote = std::exchange(log_commits_, log_commits) != log_commits;
  if (any && wrote && log_ != nullptr) {
    last_ = log_->position(database_.log_frames());
    if (durability == Durability::kNow) {
      synced_ = committed_;
      log_->note_synced(last_);
    }
  }
  const absl::Status failed = std::exchange(failed_commit_, absl::OkStatus());
  if (!failed.ok() && durability == Durability::kNow && synced_ < committed_ && broken_.ok()) {
    broken_ = failed;
  }
}

/// What was committed before is in the log, or has gone from there into the database, which SQLite
/// syncs before it begins the log anew. So the log's file is all there is to sync.
absl::Status WriteQueue::sync() {
  const absl::MutexLock lock(&mutex_);
  const uint64_t wanted = committed_;
  while (broken_.ok() && synced_ < wanted) {
    const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !syncing_; };
    mutex_.Await(absl::Condition(&idle));
    if (!broken_.ok() || synced_ >= wanted) break;
    syncing_ = true;
    const uint64_t upto = committed_;
    const LogPosition position = last_;
    mutex_.Unlock();
    const absl::Status status = log_->sync();
    mutex_.Lock();
    syncing_ = false;
    if (!status.ok()) {
      broken_ =
          base::annotate(status, "a sync of the catalog failed, and what it has is uncertain");
    } else if (synced_ < upto) {
      synced_ = upto;
      if (position.frames > 0) log_->note_synced(position);
    }
  }
  return synced_ >= wanted ? absl::OkStatus() : broken_;
}

WriteQueue::Batch WriteQueue::sync_objects(const Batch& batch) {
  std::vector<page::ObjectWriter*> objects;
  for (const Change* change : batch) {
    if (change->object != nullptr) objects.push_back(change->object);
  }
  if (objects.empty()) return batch;
  const absl::Status together = sync_objects_(objects);
  if (together.ok()) return batch;
  // Each by itself, so that each gets its own answer. One that was alone has it: the kernel tells
  // of a failed write once, and a second sync would be OK for bytes that never reached the disk.
  Batch good;
  for (Change* change : batch) {
    if (change->object != nullptr) {
      change->status = objects.size() == 1 ? together : sync_objects_({&change->object, 1});
    }
    if (change->status.ok()) good.push_back(change);
  }
  return good;
}

void WriteQueue::commit(const Batch& batch, Durability durability) {
  if (batch.empty()) return;
  const absl::Status status = try_commit(batch, durability);
  if (!status.ok() && batch.size() > 1) {
    for (Change* change : batch) commit({change}, durability);
    return;
  }
  for (Change* change : batch) {
    if (!status.ok()) change->status = status;
    if (change->status.ok()) change->committed();
  }
}

/// Between transactions only.
absl::Status WriteQueue::set_durability(Durability durability) {
  if (set_ == durability) return absl::OkStatus();
  const bool now = durability == Durability::kNow;
  BLOBCACHE_RETURN_IF_ERROR(
      database_.execute(now ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"));
  set_ = durability;
  return absl::OkStatus();
}

/// Not OK when the transaction failed as a whole; then nothing of it is left.
absl::Status WriteQueue::try_commit(const Batch& batch, Durability durability) {
  BLOBCACHE_RETURN_IF_ERROR(set_durability(durability));
  BLOBCACHE_RETURN_IF_ERROR(database_.query(kBegin).run());
  absl::Status status;
  bool any_change = false;
  for (Change* change : batch) {
    change->status = apply_one(*change, batch.size() == 1);
    any_change = any_change || change->status.ok();
    if (!database_.in_transaction()) {
      // SQLite has undone the whole transaction, the changes before this one too.
      return change->status.ok() ? absl::InternalError("the transaction was lost") : change->status;
    }
  }
  if (any_change) {
    status = database_.query(kCommit).run();
    if (!status.ok() && !absl::IsResourceExhausted(status)) failed_commit_ = status;
  }
  if (database_.in_transaction()) {
    const absl::Status undone = database_.execute("ROLLBACK");
    if (status.ok()) status = undone;
  }
  return status;
}

absl::Status WriteQueue::apply_one(Change& change, bool alone) {
  if (alone) return change.apply(writer_);
  BLOBCACHE_RETURN_IF_ERROR(database_.execute("SAVEPOINT one"));
  absl::Status status = change.apply(writer_);
  if (!database_.in_transaction()) return status;
  const char* end = status.ok() ? "RELEASE one" : "ROLLBACK TO one; RELEASE one";
  const absl::Status ended = database_.execute(end);
  return status.ok() ? ended : status;
}

}  // namespace blobcache::tree
