#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/volume/space_budget.h"

namespace blobcache::volume {

/// What one volume has taken of its budget, until it is closed: who counts closed volumes counts
/// from then on, whoever still holds the Volume. Thread-safe.
class SpaceCharge {
 public:
  /// `budget` may be null: no limit.
  explicit SpaceCharge(SpaceBudget* budget) : budget_(budget) {}
  ~SpaceCharge() { end(); }
  SpaceCharge(const SpaceCharge&) = delete;
  SpaceCharge& operator=(const SpaceCharge&) = delete;

  /// As SpaceBudget::take. Always OK after end().
  [[nodiscard]] absl::Status take(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (budget_ == nullptr) return absl::OkStatus();
    const absl::MutexLock lock(&mutex_);
    if (ended_) return absl::OkStatus();
    absl::Status status = budget_->take(bytes);
    if (status.ok()) bytes_ += bytes;
    return status;
  }
  /// For what is there already, whatever the limit is.
  void take_anyway(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (budget_ == nullptr) return;
    const absl::MutexLock lock(&mutex_);
    budget_->take_anyway(bytes);
    bytes_ += bytes;
  }
  void give(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (budget_ == nullptr) return;
    const absl::MutexLock lock(&mutex_);
    if (ended_) return;
    budget_->give(bytes);
    bytes_ -= bytes;
  }
  /// Gives all back; the budget is not asked any more. Once or more.
  void end() ABSL_LOCKS_EXCLUDED(mutex_) {
    if (budget_ == nullptr) return;
    const absl::MutexLock lock(&mutex_);
    if (!ended_) budget_->give(bytes_);
    ended_ = true;
  }

 private:
  SpaceBudget* const budget_;
  absl::Mutex mutex_;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::volume
