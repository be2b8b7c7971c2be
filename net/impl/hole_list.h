#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::net {

/// What a server told of which bytes are zeros (block status, base:allocation). Bounded: when there
/// are more runs than kMaxRuns it begins anew, since what is asked for next is near what was told
/// last. What is changed is forgotten before the change is sent, and an answer to a question from
/// before that is not taken.
///
/// Thread-safe.
class HoleList {
 public:
  static constexpr size_t kMaxRuns = size_t{1} << 16;  ///< some 4 MiB

  /// Adjacent bytes of one kind. Value type.
  struct Run {
    uint64_t length = 0;  ///< bytes, not 0
    bool zero = false;

    friend bool operator==(const Run&, const Run&) = default;
  };

  explicit HoleList(size_t max_runs = kMaxRuns) : max_runs_(max_runs) {}

  /// To be taken before a question is sent.
  [[nodiscard]] uint64_t epoch() const;
  /// An answer for `offset` on to a question of `epoch`. Adjacent runs of one kind become one.
  void learn(uint64_t epoch, uint64_t offset, const std::vector<Run>& runs);
  void forget(uint64_t offset, uint64_t length);
  /// The kind of the bytes from `offset` on, as far as known; at most `length`, not 0.
  [[nodiscard]] std::optional<Run> at(uint64_t offset, uint64_t length) const;
  [[nodiscard]] size_t runs() const;

 private:
  struct Stretch {
    uint64_t end;
    bool zero;
  };
  void cut_out(uint64_t begin, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_runs_;
  mutable absl::Mutex mutex_;
  std::map<uint64_t, Stretch> stretches_ ABSL_GUARDED_BY(mutex_);  ///< by begin; no two overlap
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::net
