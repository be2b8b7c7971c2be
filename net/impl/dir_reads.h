#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/dir_threads.h"
#include "net/impl/origin_vitals.h"
#include "store/page/source.h"

namespace blobcache::net {

/// Where a read gets its bytes: a file that is open. Thread-safe.
class DirReadable {
 public:
  virtual ~DirReadable() = default;
  /// Reads all of [offset, offset + bytes) by pieces of kMostPiece at most, and has `take` have
  /// each, in order, until that returns false. What was taken counts only when this returns OK.
  /// Blocks.
  using Take = absl::FunctionRef<bool(absl::Span<const std::byte> piece)>;
  static constexpr uint64_t kMostPiece = uint64_t{256} << 10;
  [[nodiscard]] virtual absl::Status read(uint64_t offset, uint64_t bytes, Take take) = 0;
};

/// A read that somebody waits for. It is over once: with its end, or with being given up, of which
/// the thread that is still at it learns when it comes back. That thread reads into memory of its
/// own, and copies only while the read is not over, so the reader's memory is his again then.
/// Thread-safe.
class DirRead final : public DirThreads::Job {
 public:
  DirRead(std::shared_ptr<DirReadable> file, uint64_t offset, absl::Span<std::byte> into,
          page::Source::FetchDone done);

  void work() override;
  /// Ends it; false when it was over already.
  bool finish(const absl::Status& status);

  /// Called when it is over, before who waits is told. Set before it is started.
  std::function<void(const absl::Status& status)> on_over;

 private:
  [[nodiscard]] bool take(absl::Span<const std::byte> piece);

  const std::shared_ptr<DirReadable> file_;
  const uint64_t offset_;
  absl::Mutex mutex_;
  absl::Span<std::byte> left_ ABSL_GUARDED_BY(mutex_);
  page::Source::FetchDone done_ ABSL_GUARDED_BY(mutex_);
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  const uint64_t bytes_;
};

/// The reads of an origin: so many at a time, each for so long at most. A thread of its own keeps
/// the time. Thread-safe.
class DirReads : public std::enable_shared_from_this<DirReads> {
 public:
  static constexpr size_t kMostReads = DirThreads::kMostWaiting;

  DirReads(size_t at_a_time, absl::Duration timeout, std::shared_ptr<OriginVitals> vitals);
  ~DirReads() = default;
  DirReads(const DirReads&) = delete;
  DirReads& operator=(const DirReads&) = delete;

  /// Begins a read, or ends it at once with UNAVAILABLE: too many wait, all threads hang, or the
  /// origin is closed. DEADLINE_EXCEEDED when its time is up.
  void start(const std::shared_ptr<DirRead>& read) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Ends it with `status`, if it is not over.
  void give_up(const std::shared_ptr<DirRead>& read, const absl::Status& status);
  /// Runs `job` on one of the threads, whatever waits there; false when they have ended.
  [[nodiscard]] bool run(const std::shared_ptr<DirThreads::Job>& job) {
    return threads_.start_always(job);
  }

  /// All fails with UNAVAILABLE from then on.
  void end_by(absl::Time time) ABSL_LOCKS_EXCLUDED(mutex_);
  /// The same now, and the threads end, but for those that hang. Not for a thread of this class.
  void close() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Due {
    absl::Time time;
    std::shared_ptr<DirRead> read;
  };

  void keep_time();
  /// When there is something to be done next.
  [[nodiscard]] absl::Time next() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void over(uint64_t id, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::vector<Due> take_due() ABSL_LOCKS_EXCLUDED(mutex_);

  const absl::Duration timeout_;
  const std::shared_ptr<OriginVitals> vitals_;
  DirThreads threads_;
  mutable absl::Mutex mutex_;
  /// All have the same time, so the first are due first.
  std::map<uint64_t, Due> reads_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time end_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread clock_;
};

}  // namespace blobcache::net
