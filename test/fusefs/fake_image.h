#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {

/// A thread that ends what others began, in its order. Thread-safe.
class LaterThread {
 public:
  LaterThread();
  ~LaterThread();
  LaterThread(const LaterThread&) = delete;
  LaterThread& operator=(const LaterThread&) = delete;

  /// From now on operations end on that thread, one in two. (By themselves they end at once.)
  void use() { used_ = true; }
  /// Nothing ends any more, until let_go().
  void hold();
  void let_go();
  /// Returns when so many operations are held.
  void wait_for_held(size_t count);

  /// Calls `end`, now or later.
  void run(absl::AnyInvocable<void()> end);

 private:
  void loop();

  std::atomic<bool> used_{false};
  std::atomic<uint64_t> runs_{0};
  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> ends_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

/// An image whose bytes are in memory. One that grows takes writes beyond its end and may be cut
/// short, as a file's does. Pages of zeros are holes. Thread-safe.
class FakeImage final : public volume::Image {
 public:
  enum class Size : uint8_t { kFixed, kGrows };

  /// `later` must outlive it.
  FakeImage(std::string bytes, Size size, LaterThread& later);

  [[nodiscard]] std::string bytes() const;
  void set_length(uint64_t length);
  /// Writes that asked to be flushed by themselves, and flushes.
  [[nodiscard]] uint64_t syncs() const { return syncs_; }
  /// The next changes fail so.
  void fail_with(absl::Status status);

  uint64_t size_bytes() const override;
  uint64_t identity() const override { return 1; }
  std::string about() const override { return "fake"; }
  bool try_read(uint64_t offset, absl::Span<std::byte> into) override;
  void read(uint64_t offset, absl::Span<std::byte> into, volume::Done done) override;
  /// A write at the end, of which `placed` is told first.
  using Placed = absl::AnyInvocable<void(uint64_t offset) &&>;
  void append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done);
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua,
             volume::Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                    volume::Done done) override;
  void trim(uint64_t offset, uint64_t length, bool fua, volume::Done done) override;
  void flush(volume::Done done) override;
  void map(uint64_t offset, uint64_t length, size_t max_runs, volume::MapDone done) override;

 private:
  [[nodiscard]] absl::Status make_room(uint64_t offset, uint64_t length)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool is_hole(uint64_t page) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const Size size_;
  LaterThread& later_;
  std::atomic<uint64_t> syncs_{0};
  mutable absl::Mutex mutex_;
  std::string bytes_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
