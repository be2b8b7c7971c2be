#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// How an origin is: counters, and whether it answers. Tells the log when that changes,
/// one line when it goes away and one when it is back. Thread-safe.
class OriginVitals {
 public:
  /// `what` names the origin in the log, without secrets.
  explicit OriginVitals(std::string what) : what_(std::move(what)) {}

  [[nodiscard]] const std::string& what() const { return what_; }
  void reached();
  /// One that serves a connection is there, whatever became of another one.
  void failed(const absl::Status& why);
  [[nodiscard]] tree::OriginHealth health() const;

  std::atomic<uint64_t> connections = 0;  ///< a gauge
  /// A gauge, too, told as connections; these do not say that the origin answers.
  std::atomic<uint64_t> open_files = 0;
  std::atomic<uint64_t> requests = 0;  ///< answered
  std::atomic<uint64_t> bytes_read = 0;
  std::atomic<uint64_t> bytes_written = 0;
  std::atomic<uint64_t> bytes_zero = 0;  ///< of fetches, known to be zeros and not moved
  std::atomic<uint64_t> retries = 0;

 private:
  const std::string what_;
  mutable absl::Mutex mutex_;
  bool tried_ ABSL_GUARDED_BY(mutex_) = false;
  bool reachable_ ABSL_GUARDED_BY(mutex_) = true;
  std::string trouble_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::net
