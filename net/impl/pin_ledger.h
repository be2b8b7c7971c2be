#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace blobcache::net {

/// One call as the ledger knows it: it can be cut from outside for as long as it lasts.
/// Thread-safe.
class CutHandle {
 public:
  /// `cancel` may release holds on the same thread, but not end the call.
  explicit CutHandle(std::function<void()> cancel) : cancel_(std::move(cancel)) {}
  /// Cancels the call, if it has not ended.
  void cut();
  /// The call is about to go: it will not be cancelled from here any more.
  void ended();

 private:
  friend class PinLedger;
  absl::Mutex mutex_;
  std::function<void()> cancel_ ABSL_GUARDED_BY(mutex_);
  uint64_t pinned_bytes_ = 0;  ///< guarded by the ledger's mutex
};

/// Counts the bytes of pinned frames that answers on their way hold. gRPC sends straight from the
/// frames of the memory tier, which saves a copy, but a client that does not read would keep them
/// from being evicted. So there is a bound for a call and one for the door: beyond either, an
/// answer is copied. When the door's bound is reached and the oldest answer has been stuck for
/// longer than kStuck, its call is cut: a socket that stalls can slow others by a copy, and it
/// cannot freeze the memory tier.
///
/// Thread-safe. Lock order: a handle's mutex, then the ledger's (when a call that is cut lets go at
/// once).
class PinLedger {
 public:
  static constexpr uint64_t kMaxBytesPerCall = uint64_t{4} << 20;
  static constexpr absl::Duration kStuck = absl::Seconds(30);

  /// Bytes that one answer holds, given back on destruction.
  class Hold {
   public:
    ~Hold() { ledger_.release(entry_); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    friend class PinLedger;
    struct Entry {
      std::shared_ptr<CutHandle> call;
      uint64_t bytes;
      absl::Time since;
    };
    Hold(PinLedger& ledger, std::list<Entry>::iterator entry) : ledger_(ledger), entry_(entry) {}
    PinLedger& ledger_;
    std::list<Entry>::iterator entry_;
  };

  explicit PinLedger(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  /// Nothing: the answer must be copied.
  [[nodiscard]] std::unique_ptr<Hold> try_hold(const std::shared_ptr<CutHandle>& call,
                                               uint64_t bytes, absl::Time now);

  [[nodiscard]] uint64_t held_bytes() const;

  /// Waits until nothing is held; false when that has not come to pass by then.
  [[nodiscard]] bool wait_until_empty(absl::Duration timeout);

 private:
  void release(std::list<Hold::Entry>::iterator entry);

  const uint64_t max_bytes_;
  mutable absl::Mutex mutex_;
  std::list<Hold::Entry> entries_ ABSL_GUARDED_BY(mutex_);  ///< the oldest first
  uint64_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::net
