#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/hit_ratio/simulator.h"
#include "bench/hit_ratio/trace.h"

namespace blobcache::hit_ratio {

/// A way to choose what goes, by the name that the table has for it.
struct Contender {
  std::string name;
  std::function<Result(const Trace& trace, uint64_t capacity_bytes)> replay;
};

/// Belady's MIN first, then the store's policies, the default first, then those that are here for
/// comparison only.
[[nodiscard]] std::vector<Contender> contenders();

/// One trace against one size of cache: a result for each contender.
struct Row {
  std::string trace;
  double share = 0;  ///< of the footprint, 0 to 1
  uint64_t capacity_bytes = 0;
  std::vector<Result> results;
};

/// The sizes of cache that are compared, as shares of a trace's footprint.
inline constexpr std::array kShares = {0.01, 0.1, 0.3};

/// Replays `trace` through all contenders at all of kShares.
[[nodiscard]] std::vector<Row> compare(const Trace& trace, const std::vector<Contender>& all);

/// The table for people: hit ratios, byte hit ratios and the bytes that each had to bring, in per
/// cent and GiB; below them each contender's mean, and how far it is from Belady on average and at
/// worst.
[[nodiscard]] std::string table(const std::vector<Contender>& all, const std::vector<Row>& rows);

}  // namespace blobcache::hit_ratio
