#include "store/tree/impl/write_queue.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::tree {

absl::Status WriteQueue::run(Apply apply, Committed committed, page::ObjectWriter* object) {
  Change change{.apply = apply, .committed = committed, .object = object, .status = {}};
  const absl::MutexLock lock(&mutex_);
  waiting_.push_back(&change);
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
    return waiting_.size() >= std::min(gathering_.expected(), kMaxBatch);
  };
  mutex_.AwaitWithTimeout(absl::Condition(&gathered), gathering_.patience());
  const auto count = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kMaxBatch));
  const Batch batch(waiting_.begin(), waiting_.begin() + count);
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  mutex_.Unlock();
  const absl::Time start = absl::Now();
  commit(sync_objects(batch));
  const absl::Duration took = absl::Now() - start;
  mutex_.Lock();
  gathering_.done(batch.size(), took);
  for (Change* change : batch) change->done = true;
  leading_ = false;
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

void WriteQueue::commit(const Batch& batch) {
  if (batch.empty()) return;
  const absl::Status status = try_commit(batch);
  if (!status.ok() && batch.size() > 1) {
    for (Change* change : batch) commit({change});
    return;
  }
  for (Change* change : batch) {
    if (!status.ok()) change->status = status;
    if (change->status.ok()) change->committed();
  }
}

/// Not OK when the transaction failed as a whole; then nothing of it is left.
absl::Status WriteQueue::try_commit(const Batch& batch) {
  BLOBCACHE_RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
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
  if (any_change) status = database_.execute("COMMIT");
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
