#pragma once

#include <algorithm>
#include <cstddef>

#include "absl/time/time.h"

namespace blobcache::base {

/// How long the first of those who share a slow step (a sync) waits for the others to join it.
///
/// Threads that share a step come back for the next one together, but not at the same instant:
/// without a pause the first would go alone, and the others together after it, so that half of the
/// steps serve one. So as many are waited for as the larger of the last two steps served, and no
/// longer than two such steps take, as their own work between two steps takes time as well. One
/// thread alone never waits. (PostgreSQL's commit_delay and commit_siblings, without their
/// settings.)
///
/// Not thread-safe; the owner guards it.
class Gathering {
 public:
  /// Longer than what sixteen writers of small objects have to do between two steps on two slow
  /// processors; less, and their group falls apart where steps are slow.
  static constexpr absl::Duration kMaxPatience = absl::Milliseconds(25);

  /// The next step should serve so many; 1 to go at once.
  [[nodiscard]] size_t expected() const { return std::max<size_t>(1, std::max(last_, before_)); }
  [[nodiscard]] absl::Duration patience() const { return std::min(2 * took_, kMaxPatience); }

  /// A step served `served` and took so long.
  void done(size_t served, absl::Duration took) {
    before_ = last_;
    last_ = served;
    took_ = took;
  }

 private:
  size_t last_ = 1;
  size_t before_ = 1;
  absl::Duration took_;
};

}  // namespace blobcache::base
