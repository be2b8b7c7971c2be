#include "net/impl/pin_ledger.h"

#include <spdlog/spdlog.h>

#include <iterator>

namespace blobcache::net {

void CutHandle::cut() {
  absl::MutexLock lock(&mutex_);
  if (cancel_) cancel_();
}

void CutHandle::ended() {
  absl::MutexLock lock(&mutex_);
  cancel_ = nullptr;
}

std::unique_ptr<PinLedger::Hold> PinLedger::try_hold(const std::shared_ptr<CutHandle>& call,
                                                     uint64_t bytes, absl::Time now) {
  std::shared_ptr<CutHandle> stuck;
  {
    absl::MutexLock lock(&mutex_);
    if (call->pinned_bytes_ + bytes > kMaxBytesPerCall) return nullptr;
    if (held_bytes_ + bytes <= max_bytes_) {
      entries_.push_back({call, bytes, now});
      held_bytes_ += bytes;
      call->pinned_bytes_ += bytes;
      return std::unique_ptr<Hold>(new Hold(*this, std::prev(entries_.end())));
    }
    if (!entries_.empty() && now - entries_.front().since > kStuck) stuck = entries_.front().call;
  }
  if (stuck != nullptr) {
    spdlog::warn(
        "grpc: cutting a read whose client has taken nothing for {} s while others need the memory",
        absl::ToInt64Seconds(kStuck));
    stuck->cut();
  }
  return nullptr;
}

uint64_t PinLedger::held_bytes() const {
  absl::MutexLock lock(&mutex_);
  return held_bytes_;
}

bool PinLedger::wait_until_empty(absl::Duration timeout) {
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return entries_.empty(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

void PinLedger::release(std::list<Hold::Entry>::iterator entry) {
  std::list<Hold::Entry> gone;  // destroyed after the lock is
  absl::MutexLock lock(&mutex_);
  held_bytes_ -= entry->bytes;
  entry->call->pinned_bytes_ -= entry->bytes;
  gone.splice(gone.end(), entries_, entry);
}

}  // namespace blobcache::net
