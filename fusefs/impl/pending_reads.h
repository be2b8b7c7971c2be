#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/object.h"

namespace blobcache::fusefs {

/// The reads that wait for their pages, each known by a number, so that an interrupt (a signal to
/// the reading process) or the end of the mount can end them early.
///
/// A number and not a pointer, because libfuse may call an interrupt function at the moment the
/// request is answered on another thread: it holds on to what it was given past the reply. A number
/// that is gone means that there is nothing left to end.
///
/// The life of a read: begin(), then the interrupt function is registered, then the store is asked,
/// started() with what it gave, and in its callback why(), the reply, end(). The callback may come
/// before started(). libfuse forbids a reply from inside the registration, so an interrupt that
/// comes before started() is only noted, and acted on there.
///
/// Thread-safe. Bounded by the kernel: max_background requests and one for each thread that reads.
class PendingReads {
 public:
  enum class Ended : uint8_t { kByItself, kInterrupted, kMountEnds };

  [[nodiscard]] uint64_t begin();
  /// Keeps the store's handle; ends the read at once if it was interrupted meanwhile. `id` may have
  /// ended.
  void started(uint64_t id, page::PendingRead read);
  /// Ends the read early; its callback comes with CANCELLED. No-op when it has ended.
  void interrupt(uint64_t id);
  /// Whether somebody asked for the end of this read.
  [[nodiscard]] Ended why(uint64_t id) const;
  /// The read was answered and holds nothing any more.
  void end(uint64_t id);

  /// Ends all reads early, those that begin from now on, too.
  void cancel_all();
  /// The same, and returns when each has been answered. No read may begin afterwards.
  void cancel_all_and_wait();

  /// Whether by then none is left; of those that begin meanwhile, too.
  [[nodiscard]] bool wait_until_none(absl::Time deadline);

  [[nodiscard]] size_t size() const;

 private:
  struct Read {
    page::PendingRead read;
    bool started = false;
    bool interrupted = false;
  };

  mutable absl::Mutex mutex_;  // never held while the store is called
  absl::flat_hash_map<uint64_t, Read> reads_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::fusefs
