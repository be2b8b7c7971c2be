// How often each eviction policy finds what is asked for, against Belady's optimum:
//
//     store_hit_ratio_bench [--trace FILE.csv]...
//
// Without arguments over the set of made-up traces, which are the same each time; with --trace over
// these files instead: a line KEY,SIZE (bytes) for each read of a whole object.

#include <fmt/format.h>

#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/hit_ratio/comparison.h"
#include "bench/hit_ratio/generators.h"
#include "bench/hit_ratio/trace.h"

namespace blobcache::hit_ratio {
namespace {

constexpr size_t kRequests = 1'000'000;
constexpr int kUsageError = 2;

void add(std::vector<Row>& rows, const Trace& trace, const std::vector<Contender>& all) {
  for (Row& row : compare(trace, all)) rows.push_back(std::move(row));
}

int run(std::span<char*> arguments) {
  const std::vector<Contender> all = contenders();
  std::vector<Row> rows;
  for (size_t at = 0; at < arguments.size(); at += 2) {
    if (std::string_view(arguments[at]) != "--trace" || at + 1 == arguments.size()) {
      fmt::print(stderr, "usage: store_hit_ratio_bench [--trace FILE.csv]...\n");
      return kUsageError;
    }
    const absl::StatusOr<Trace> trace = read_csv(arguments[at + 1]);
    if (!trace.ok()) {
      fmt::print(stderr, "store_hit_ratio_bench: {}\n", base::message(trace.status()));
      return 1;
    }
    add(rows, *trace, all);
  }
  if (arguments.empty()) {
    for (const Generator& generator : generators()) {
      fmt::print("{:<10} {}\n", generator.name, generator.what);
      add(rows, generator.make(kRequests), all);
    }
    fmt::print("\n");
  }
  fmt::print("{}", table(all, rows));
  return 0;
}

}  // namespace
}  // namespace blobcache::hit_ratio

int main(int argc, char** argv) {
  return blobcache::hit_ratio::run(std::span(argv, static_cast<size_t>(argc)).subspan(1));
}
