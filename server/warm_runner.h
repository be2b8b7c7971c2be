#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"

namespace blobcache::server {

/// What is to be on disk. Value type.
struct WarmWish {
  std::string path;
  uint64_t offset = 0;  ///< bytes; at most the file's size
  uint64_t length = 0;  ///< 0: to the end; what passes it is cut there
};

/// What a warming came to, in bytes. Value type.
struct Warmed {
  uint64_t length = 0;   ///< of the range
  uint64_t fetched = 0;  ///< of it, what the disk had not
};

/// Told now and then how far it is, in bytes; false: it is to end.
using WarmProgress = absl::FunctionRef<bool(uint64_t done, uint64_t total)>;

/// Has the disk tier hold ranges of origins' files before somebody reads them: what it has not is
/// fetched, no faster than the disk takes it. What is kept here anyway is there.
///
/// Thread-safe. Before it is destroyed no run() may be under way: stop() ends them.
class WarmRunner {
 public:
  /// As many wait at a time: each takes a thread of its caller's.
  static constexpr size_t kMostCallers = 8;
  /// As many, begun with begin(), are under way or wait; one is worked on at a time.
  static constexpr size_t kMostWaiting = 1024;

  WarmRunner(tree::Namespace& names, page::PageStore& store);
  WarmRunner(const WarmRunner&) = delete;
  WarmRunner& operator=(const WarmRunner&) = delete;
  ~WarmRunner();

  /// Returns when all of it is on disk. OUT_OF_RANGE for an offset past the end;
  /// FAILED_PRECONDITION for a directory, a link, an image, a file that is being written, and a
  /// version that nothing would outlive the open of; RESOURCE_EXHAUSTED when the disk kept not all;
  /// CANCELLED when `progress` ended it; UNAVAILABLE after stop() and with kMostCallers; else what
  /// the origin says.
  [[nodiscard]] absl::StatusOr<Warmed> run(const WarmWish& wish, WarmProgress progress)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Returns when it will be done, by a thread of this class, which tells the log what fails. The
  /// same errors of what can be known by then, and RESOURCE_EXHAUSTED with kMostWaiting.
  [[nodiscard]] absl::Status begin(const WarmWish& wish) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends all, within a moment, and lets none begin any more. Does not wait.
  void stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// A range of an object that is open.
  struct Range {
    std::string path;
    page::ObjectRef object;
    uint64_t offset = 0;
    uint64_t end = 0;
  };

  [[nodiscard]] absl::StatusOr<Range> open(const WarmWish& wish);
  [[nodiscard]] absl::StatusOr<Warmed> warm(const Range& range, WarmProgress progress);
  /// Fetches what is nowhere here; returns its bytes.
  [[nodiscard]] absl::StatusOr<uint64_t> fetch_missing(const Range& range, WarmProgress progress);
  [[nodiscard]] absl::StatusOr<bool> is_on_disk(const Range& range);
  [[nodiscard]] bool is_stopped() ABSL_LOCKS_EXCLUDED(mutex_);
  void work() ABSL_LOCKS_EXCLUDED(mutex_);

  tree::Namespace& names_;
  page::PageStore& store_;
  /// So many bytes are fetched before the disk has to have them.
  const uint64_t stride_;
  absl::Mutex mutex_;  ///< a leaf
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  size_t callers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Range> waiting_ ABSL_GUARDED_BY(mutex_);
  std::thread worker_ ABSL_GUARDED_BY(mutex_);  ///< begun when it is first needed
};

}  // namespace blobcache::server
