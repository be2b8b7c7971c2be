#include "bench/store/page/bench_medians.h"

#include <fmt/format.h>

#include <vector>

namespace blobcache::page {

void Medians::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (run.aggregate_name != "median") continue;
    std::string name = run.run_name.function_name;
    if (!run.run_name.args.empty()) name += " " + run.run_name.args;
    Median& median = medians_[name][run.threads];
    median.time = run.GetAdjustedRealTime();
    for (const auto& [counter, value] : run.counters) median.counters[counter] = value.value;
  }
  ConsoleReporter::ReportRuns(runs);
}

void Medians::for_each(
    const std::function<void(const std::string& name, const std::map<int64_t, Median>& by_threads)>&
        visit) const {
  for (const auto& [name, by_threads] : medians_) visit(name, by_threads);
}

Medians::Median Medians::of(const std::string& name, int64_t threads) const {
  const auto found = medians_.find(name);
  if (found == medians_.end() || !found->second.contains(threads)) return {};
  return found->second.at(threads);
}

bool run_in_turns(int argc, char** argv, int repetitions, Medians& medians) {
  std::vector<std::string> words = {argv[0], fmt::format("--benchmark_repetitions={}", repetitions),
                                    "--benchmark_report_aggregates_only=true",
                                    "--benchmark_enable_random_interleaving=true"};
  words.insert(words.end(), argv + 1, argv + argc);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  auto count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return false;
  benchmark::RunSpecifiedBenchmarks(&medians);
  return true;
}

}  // namespace blobcache::page
