#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace blobcache::page {

/// Prints as ever, and remembers the medians, so that a benchmark can end with its ratios. One
/// thread.
class Medians final : public benchmark::ConsoleReporter {
 public:
  /// The median of one benchmark with one number of threads: its time, as it is printed, and its
  /// counters.
  struct Median {
    double time = 0;
    std::map<std::string, double> counters;
  };

  Medians() : ConsoleReporter(OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override;

  /// Calls visit(name, of each number of threads). The name has the arguments behind it.
  void for_each(
      const std::function<void(const std::string& name,
                               const std::map<int64_t, Median>& by_threads)>& visit) const;
  /// Zeros for what did not run.
  [[nodiscard]] Median of(const std::string& name, int64_t threads = 1) const;

 private:
  std::map<std::string, std::map<int64_t, Median>> medians_;  ///< by name, then threads
};

/// Runs the registered benchmarks, in turns, so that whatever else the machine does meets all
/// alike. False for arguments that are not Google Benchmark's.
[[nodiscard]] bool run_in_turns(int argc, char** argv, int repetitions, Medians& medians);

}  // namespace blobcache::page
