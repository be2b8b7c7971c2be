#include "fusefs/impl/pending_reads.h"

#include <utility>
#include <vector>

namespace blobcache::fusefs {

uint64_t PendingReads::begin() {
  absl::MutexLock lock(&mutex_);
  const uint64_t id = next_id_++;
  reads_.emplace(id, Read{});
  return id;
}

void PendingReads::started(uint64_t id, page::PendingRead read) {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = reads_.find(id);
    if (found == reads_.end()) return;
    found->second.read = read;
    found->second.started = true;
    if (!found->second.interrupted && !closing_) return;
  }
  read.cancel();
}

void PendingReads::interrupt(uint64_t id) {
  page::PendingRead read;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = reads_.find(id);
    if (found == reads_.end()) return;
    found->second.interrupted = true;
    if (!found->second.started) return;
    read = found->second.read;
  }
  read.cancel();
}

PendingReads::Ended PendingReads::why(uint64_t id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = reads_.find(id);
  if (found != reads_.end() && found->second.interrupted) return Ended::kInterrupted;
  return closing_ ? Ended::kMountEnds : Ended::kByItself;
}

void PendingReads::end(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  reads_.erase(id);
}

void PendingReads::cancel_all() {
  std::vector<page::PendingRead> under_way;
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    for (const auto& [id, read] : reads_) {
      if (read.started) under_way.push_back(read.read);
    }
  }
  for (page::PendingRead& read : under_way) read.cancel();
}

void PendingReads::cancel_all_and_wait() {
  cancel_all();
  absl::MutexLock lock(&mutex_);
  const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return reads_.empty(); };
  mutex_.Await(absl::Condition(&none));
}

bool PendingReads::wait_until_none(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return reads_.empty(); };
  return mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
}

size_t PendingReads::size() const {
  absl::MutexLock lock(&mutex_);
  return reads_.size();
}

}  // namespace blobcache::fusefs
