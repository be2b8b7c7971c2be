#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// Asynchronous file I/O by io_uring. Any thread asks; one thread of the ring's own submits, reaps
/// and calls back. A read of a thread that may block (AllowBlocking) is done by that thread.
///
/// One thread submits, because the kernel has the submitter do a part of each completion: any other
/// thread would be interrupted for that, where it waits for a client, before the ring's could be
/// woken. And what comes while it works is submitted together, with one call and one word to the
/// device.
///
/// At most `depth` operations are in the kernel; the rest wait in a queue whose length is bounded
/// by the callers (reads by the store's admission, writes by the writers' buffers). Thread-safe.
/// Destroying it waits for every operation.
class IoRing {
 public:
  /// 0, or a negative errno value. Called on the ring's thread, or on the caller's if that may
  /// block; must not block. -ENODATA: the file
  /// ended before `needed` bytes.
  using Done = absl::AnyInvocable<void(int result)>;

  /// `fault` (perhaps absent) is asked about every operation before its first step.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<IoRing>> create(unsigned depth,
                                                                      DiskFault fault = nullptr);
  ~IoRing();
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;

  /// Reads into `into` at `offset`; done when `needed` bytes (at most into.size()) have come. With
  /// direct I/O address, size and offset are multiples of the page size, while `needed` may be the
  /// file's odd end.
  void read(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed, Done done);

  /// The same, by this ring whoever asks.
  void read_by_ring(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed, Done done);

  /// Writes all of `from` at `offset`. `from` stays valid until `done`.
  void write(int fd, absl::Span<const std::byte> from, uint64_t offset, Done done);

 private:
  struct Operation {
    bool is_write = false;
    int fd = -1;
    std::byte* data = nullptr;
    size_t size = 0;
    uint64_t offset = 0;
    size_t needed = 0;
    size_t moved = 0;
    int fault = 0;          ///< what a test wants of the first step; see DiskFault
    unsigned refusals = 0;  ///< times that the kernel said "try again", in a row
    Done done;
  };

  IoRing(unsigned depth, DiskFault fault) : depth_(depth), fault_(std::move(fault)) {}
  void submit(std::unique_ptr<Operation> operation) ABSL_LOCKS_EXCLUDED(mutex_);

  // The ring's thread.
  void work(absl::Notification& ready, int& error);
  [[nodiscard]] int set_up();
  void prepare(Operation* operation);
  void watch_wake_up();
  /// Prepares what waits. False when there is nothing left to do, ever.
  [[nodiscard]] bool take_waiting(bool sleeps_then) ABSL_LOCKS_EXCLUDED(mutex_);
  void reap_all() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Handles one completion: resubmits what a short transfer left, or takes the operation's
  /// outcome.
  void complete(Operation* operation, int result) ABSL_LOCKS_EXCLUDED(mutex_);

  const unsigned depth_;
  const DiskFault fault_;
  base::UniqueFd wake_up_;  ///< an eventfd, which the ring watches

  io_uring ring_{};        // the ring's thread's
  uint64_t wake_ups_ = 0;  // what the watch reads
  bool watches_ = false;   // a watch is in the kernel

  absl::Mutex mutex_;
  unsigned in_kernel_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::unique_ptr<Operation>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool sleeps_ ABSL_GUARDED_BY(mutex_) = false;  ///< the ring's thread waits for the kernel
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

/// Hands everything prepared in a ring to the kernel, waiting while that is short of memory.
void hand_over(io_uring& ring);

}  // namespace blobcache::page
