#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "blockdev/impl/device.h"
#include "store/page/object.h"

namespace blobcache::blockdev {

/// One call of a device that has ended: as it was asked for, `bytes` of a read or `runs` of a map
/// when `status` is OK.
struct Completion {
  uint32_t id = 0;  ///< as given to expect...()
  uint32_t ticket = 0;
  absl::Status status;
  DeviceBytes bytes;
  std::vector<page::MapRun> runs;
};

/// Brings what devices have done from their threads to the connection's thread. The device's side
/// takes a mutex for a push and never waits; it writes the eventfd only when the connection's
/// thread has said that it is about to sleep, so a busy connection costs no wake-ups.
///
/// A callback is a pointer to a ticket, small enough that making one allocates nothing; tickets are
/// recycled. Each holds the queue by shared_ptr while it is out, so a late callback never meets
/// freed memory. The expect...() functions, take(), arm() and drain() are for the connection's
/// thread; wake() and the callbacks run anywhere. Bounded by its user, which bounds the calls that
/// it makes.
class CompletionQueue : public std::enable_shared_from_this<CompletionQueue> {
 public:
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<CompletionQueue>> create();

  /// Readable when arm()ed and something came, or after wake().
  [[nodiscard]] int wake_fd() const { return wake_fd_.get(); }

  /// The callback for one call, which will come out of take() as `id`.
  [[nodiscard]] Device::ReadDone expect_read(uint32_t id);
  [[nodiscard]] Device::MapDone expect_map(uint32_t id);
  [[nodiscard]] Device::Done expect(uint32_t id);

  /// Whether something has come; a hint that costs no lock.
  [[nodiscard]] bool any() const { return any_.load(std::memory_order_acquire); }

  /// Replaces `into` with what has come. Costs no lock when nothing has.
  void take(std::vector<Completion>& into);

  /// Before sleeping on wake_fd(): true when nothing has come, and what comes next will make it
  /// readable.
  [[nodiscard]] bool arm();
  /// After sleeping: makes wake_fd() unreadable again.
  void disarm(bool readable);

  void wake();

  /// Waits until every expected call has ended, and drops them.
  void drain();

 private:
  struct Ticket {
    std::shared_ptr<CompletionQueue> queue;  ///< while it is out
    uint32_t id = 0;
    uint32_t number = 0;
  };

  explicit CompletionQueue(base::UniqueFd wake_fd) : wake_fd_(std::move(wake_fd)) {}

  [[nodiscard]] Ticket* hand_out(uint32_t id);
  static void come_back(Ticket& ticket, Completion completion);
  void push(Completion completion);

  const base::UniqueFd wake_fd_;
  std::deque<Ticket> tickets_;  // stay where they are
  std::vector<uint32_t> free_tickets_;
  std::atomic<bool> any_ = false;  // something is in ready_; may lag behind by an instant

  absl::Mutex mutex_;
  std::vector<Completion> ready_ ABSL_GUARDED_BY(mutex_);
  size_t expected_ ABSL_GUARDED_BY(mutex_) = 0;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::blockdev
