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

/// How an HTTP origin is: counters, and whether the server answers. Tells the log when it is given
/// up and when it is back, a line each. Thread-safe.
class HttpVitals {
 public:
  /// `what` names the origin in the log, without secrets.
  explicit HttpVitals(std::string what) : what_(std::move(what)) {}

  [[nodiscard]] const std::string& what() const { return what_; }
  /// The server answers.
  void reached();
  /// A request failed for a reason that is the server's.
  void failed(const absl::Status& why);
  /// It failed for so long that it is not asked any more, but for probes. Until reached().
  void given_up();
  [[nodiscard]] tree::OriginHealth health() const;

  std::atomic<uint64_t> connections = 0;  ///< a gauge: requests under way
  std::atomic<uint64_t> requests = 0;     ///< answered
  std::atomic<uint64_t> bytes_read = 0;
  std::atomic<uint64_t> retries = 0;

 private:
  const std::string what_;
  mutable absl::Mutex mutex_;
  bool tried_ ABSL_GUARDED_BY(mutex_) = false;
  bool reachable_ ABSL_GUARDED_BY(mutex_) = true;
  bool given_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::string trouble_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::net
