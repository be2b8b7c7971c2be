#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::fusefs {

/// Adjacent bytes that are all of one kind. Value type.
struct Stretch {
  enum class Kind : uint8_t { kData, kHole };
  uint64_t length = 0;  ///< not 0
  bool is_hole = false;
};

/// lseek(2) to the next byte that is data, or in a hole, in something that tells what it consists
/// of a few stretches at a time, at once or later. What lies beyond the end is a hole.
///
/// Keeps itself until it has ended. Its steps may be on different threads, one at a time; a map
/// that answers at once costs a loop and no deeper stack. `found` is called when no `ask` is under
/// way, so what that holds while it runs is let go of by then.
class HoleSearch : public std::enable_shared_from_this<HoleSearch> {
 public:
  using Told = absl::AnyInvocable<void(absl::StatusOr<std::vector<Stretch>>)>;
  /// Tells what [at, at + length) consists of, from `at` on, as far as it likes.
  using Ask = absl::AnyInvocable<void(uint64_t at, uint64_t length, Told told)>;
  /// The offset; NOT_FOUND when there is no such byte, else what the map answered.
  using Found = absl::AnyInvocable<void(const absl::StatusOr<uint64_t>&)>;

  struct Range {
    uint64_t begin = 0;  ///< less than `end`
    uint64_t end = 0;    ///< of all that is there
  };

  static void start(Stretch::Kind wanted, Range range, Ask ask, Found found);

 private:
  /// How far one question has got: whoever comes second, the answer or the return of the call that
  /// asked, goes on.
  enum class Step : uint8_t { kAsked, kAnswered, kReturned };

  HoleSearch(Stretch::Kind wanted, Range range, Ask ask, Found found);
  void run();
  /// Whether that was the end.
  [[nodiscard]] bool take_answer();

  const Stretch::Kind wanted_;
  Range range_;  // still to be looked at
  Ask ask_;
  Found found_;
  std::atomic<Step> step_{Step::kAsked};
  absl::StatusOr<std::vector<Stretch>> answer_;  // of whoever is in its turn
};

}  // namespace blobcache::fusefs
