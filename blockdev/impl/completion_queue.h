#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/object.h"

namespace blobcache::blockdev {

/// One finished read of the store.
struct Completion {
  uint32_t id = 0;  ///< as given to expect()
  absl::StatusOr<page::PinnedRange> result;
};

/// Brings finished reads from the store's threads to the connection's thread. The store's side
/// takes a mutex for a push and never waits; it writes the eventfd only when the connection's
/// thread has said that it is about to sleep, so a busy connection costs no wake-ups.
///
/// Each callback holds the queue by shared_ptr, so a late one never meets freed memory. expect(),
/// take(), arm() and drain() are for the connection's thread; wake() and the callbacks run
/// anywhere. Bounded by its user, which bounds the reads that it starts.
class CompletionQueue : public std::enable_shared_from_this<CompletionQueue> {
 public:
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<CompletionQueue>> create();

  /// Readable when arm()ed and something came, or after wake().
  [[nodiscard]] int wake_fd() const { return wake_fd_.get(); }

  /// The callback for one read, which will come out of take() as `id`.
  [[nodiscard]] page::Object::ReadDone expect(uint32_t id);

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

  /// Waits until every expected read has come, and drops them.
  void drain();

 private:
  explicit CompletionQueue(base::UniqueFd wake_fd) : wake_fd_(std::move(wake_fd)) {}

  void push(Completion completion);

  const base::UniqueFd wake_fd_;
  std::atomic<bool> any_ = false;  // something is in ready_; may lag behind by an instant

  absl::Mutex mutex_;
  std::vector<Completion> ready_ ABSL_GUARDED_BY(mutex_);
  size_t expected_ ABSL_GUARDED_BY(mutex_) = 0;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::blockdev
