#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/tree/namespace.h"
#include "store/tree/scrub.h"

namespace blobcache::server {

/// What a scrub came to. Value type.
struct ScrubSummary {
  std::string path;  ///< "": everything
  absl::Time started;
  absl::Time ended;
  uint64_t objects = 0;
  uint64_t pages = 0;  ///< of content, zero ones included
  uint64_t bytes = 0;  ///< read from the disk and compared
  uint64_t damaged_objects = 0;
  uint64_t damaged_pages = 0;
  uint64_t repaired_maps = 0;
};

/// What there is to say of scrubs since the start. Counters only grow. Value type.
struct ScrubStats {
  bool running = false;
  uint64_t checked_pages = 0;
  uint64_t damaged_pages = 0;
  std::optional<ScrubSummary> last;  ///< the last one that came to its end
};

/// Who has a scrub run. Called on the thread of the scrub.
class ScrubListener {
 public:
  virtual ~ScrubListener() = default;
  /// False: the scrub is to end.
  [[nodiscard]] virtual bool wants_more() = 0;
  virtual void on_begin(uint64_t objects, uint64_t bytes) = 0;
  /// So much is done; told a few times a second.
  virtual void on_progress(uint64_t objects, uint64_t bytes) = 0;
  virtual void on_damage(const tree::DamagedObject& object) = 0;
};

/// Runs scrubs, one at a time, each on a thread of its own whose priority, for the processor and
/// for the disk, is below everybody else's.
///
/// Thread-safe. Before it is destroyed no run() may be under way: stop() ends it.
class ScrubRunner {
 public:
  static constexpr uint64_t kDefaultRate = uint64_t{100} << 20;

  explicit ScrubRunner(tree::Namespace& names) : names_(names) {}
  ScrubRunner(const ScrubRunner&) = delete;
  ScrubRunner& operator=(const ScrubRunner&) = delete;

  /// Scrubs `path` (see tree::Namespace::scrub) at no more than `bytes_per_second` read from the
  /// disk, 0 for no limit, and returns when it has ended. ALREADY_EXISTS while another one runs,
  /// CANCELLED when the listener ended it, UNAVAILABLE when stop() did, else the tree's error.
  [[nodiscard]] absl::StatusOr<ScrubSummary> run(std::string_view path, uint64_t bytes_per_second,
                                                 ScrubListener& listener)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends the scrub that runs, within a moment, and lets none begin any more. Does not wait.
  void stop() ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] ScrubStats stats() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Watcher;

  [[nodiscard]] bool stopping() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::Status begin() ABSL_LOCKS_EXCLUDED(mutex_);
  void count(const page::ScrubResult& result) ABSL_LOCKS_EXCLUDED(mutex_);
  void finish(const absl::Status& status, const ScrubSummary& summary) ABSL_LOCKS_EXCLUDED(mutex_);

  tree::Namespace& names_;
  mutable absl::Mutex mutex_;  ///< a leaf
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  ScrubStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
