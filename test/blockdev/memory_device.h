#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "blockdev/impl/device.h"

namespace blobcache::blockdev {

/// A device of zeros that can be written, in memory. It does what it is asked for at once, or, once
/// hold() was called, when the test says so; and remembers what it was asked for. Thread-safe.
class MemoryDevice : public Device {
 public:
  explicit MemoryDevice(uint64_t size_bytes)
      : size_(size_bytes), bytes_(size_bytes), written_(size_bytes) {}

  struct Call {
    enum class Kind { kRead, kMap, kWrite, kZeroes, kTrim, kFlush };
    Kind kind = Kind::kRead;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool fua = false;
    bool no_hole = false;
    bool fast = false;

    friend bool operator==(const Call&, const Call&) = default;
  };

  uint64_t size_bytes() const override { return size_.load(); }
  bool read_only() const override { return false; }
  bool can_zero_fast() const override { return true; }
  uint64_t identity() const override { return 7; }
  std::string description() const override { return "memory"; }
  /// Nothing here is pinned: every read is a miss, answered with bytes of its own.
  bool try_read(uint64_t /*offset*/, uint64_t /*length*/, page::PinnedRange& /*range*/) override {
    return false;
  }
  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override;
  page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done) override;
  void trim(uint64_t offset, uint64_t length, bool fua, Done done) override;
  void flush(Done done) override;

  /// From now on calls wait.
  void hold();
  /// Waits until `count` calls wait.
  void wait_for(size_t count);
  /// wait_for(), and then lets all of them go on, and those that come later.
  void release(size_t count);
  /// From now on what changes the device, or reads it, fails; OK ends that.
  void fail(const absl::Status& status);
  void grow(uint64_t size_bytes);
  /// Calls since the last time.
  [[nodiscard]] std::vector<Call> take_calls();
  /// What it holds.
  [[nodiscard]] std::string content(uint64_t offset, uint64_t length);

 private:
  /// Carries a call out, or keeps it.
  void take(const Call& call, absl::AnyInvocable<void()> work);
  [[nodiscard]] absl::Status error();
  void clear(uint64_t offset, uint64_t length, bool allocated);

  std::atomic<uint64_t> size_;
  absl::Mutex mutex_;
  std::vector<std::byte> bytes_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> written_ ABSL_GUARDED_BY(mutex_);  // which bytes have room of their own
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::blockdev
