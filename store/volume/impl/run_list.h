#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "store/volume/image.h"

namespace blobcache::volume {

/// Puts stretches of a map together, adjacent ones of one kind as one run, up to a number of runs.
class RunList {
 public:
  /// `most`: at least 1.
  explicit RunList(size_t most) : most_(std::max<size_t>(most, 1)) {}

  /// False when the run is one too many.
  [[nodiscard]] bool add(Run::Kind kind, uint64_t length) {
    if (!runs_.empty() && runs_.back().kind == kind) {
      runs_.back().length_bytes += length;
      return true;
    }
    if (runs_.size() == most_) return false;
    runs_.push_back({length, kind});
    return true;
  }
  [[nodiscard]] std::vector<Run> take() { return std::move(runs_); }

 private:
  const size_t most_;
  std::vector<Run> runs_;
};

}  // namespace blobcache::volume
