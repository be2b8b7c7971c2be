#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "base/door_stats.h"
#include "net/impl/pin_ledger.h"
#include "net/impl/put_slots.h"
#include "net/impl/worker_pool.h"
#include "store/tree/namespace.h"

namespace blobcache::net {

/// What all streams of one RpcServer share: the tree, the threads, the bounds and the counters.
///
/// Thread-safe. Outlives every stream.
class DataDoor {
 public:
  /// Puts under way at once; each has a writer with up to 16 MiB of buffers.
  static constexpr size_t kMaxPuts = 64;
  /// Threads that write, hash and sync. As many as puts would do, but a commit is the only long
  /// wait, and commits share their syncs.
  static constexpr size_t kWriters = 32;
  /// Threads that make answers from pages that had to be fetched.
  static constexpr size_t kSenders = 4;

  DataDoor(tree::Namespace& names, uint32_t max_streams, uint64_t max_pinned_bytes)
      : names_(names), max_streams_(max_streams), pins_(max_pinned_bytes), puts_(kMaxPuts) {}

  [[nodiscard]] tree::Namespace& names() { return names_; }
  [[nodiscard]] PinLedger& pins() { return pins_; }
  [[nodiscard]] PutSlots& puts() { return puts_; }
  [[nodiscard]] WorkerPool& writers() { return writers_; }
  [[nodiscard]] WorkerPool& senders() { return senders_; }

  /// Counts a call of the Data service in: RESOURCE_EXHAUSTED when there are too many, UNAVAILABLE
  /// when the server is stopping. Whatever it says, leave() must follow.
  [[nodiscard]] absl::Status enter();
  void leave() { open_.fetch_sub(1, std::memory_order_relaxed); }

  void count_out(uint64_t bytes) { bytes_out_.fetch_add(bytes, std::memory_order_relaxed); }
  void count_in(uint64_t bytes) { bytes_in_.fetch_add(bytes, std::memory_order_relaxed); }
  /// Counts and logs an error that becomes an answer to `what` ("read", "put", "stat").
  void report(const char* what, const absl::Status& status);

  void refuse_new() { stopping_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] base::DoorStats stats() const;

 private:
  tree::Namespace& names_;
  const uint32_t max_streams_;
  PinLedger pins_;
  PutSlots puts_;
  WorkerPool writers_{kWriters, "grpc-writer"};
  WorkerPool senders_{kSenders, "grpc-sender"};
  std::atomic<bool> stopping_ = false;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> bytes_out_ = 0;
  std::atomic<uint64_t> bytes_in_ = 0;
  std::atomic<uint64_t> errors_ = 0;
  std::atomic<uint64_t> open_ = 0;
};

}  // namespace blobcache::net
