#include "bench/hit_ratio/comparison.h"

#include <doctest/doctest.h>

#include "bench/hit_ratio/generators.h"
#include "store/page/eviction.h"

namespace blobcache::hit_ratio {

TEST_CASE("nobody does better than Belady where extents are alike, and most do worse") {
  const std::vector<Contender> all = contenders();
  REQUIRE(all.front().name == "belady");
  for (const Generator& generator : generators()) {
    if (generator.name == "files" || generator.name == "mixed") continue;
    CAPTURE(generator.name);
    for (const Row& row : compare(generator.make(30'000), all)) {
      for (size_t at = 1; at < all.size(); ++at) {
        CAPTURE(all[at].name);
        CHECK(row.results[at].hits <= row.results.front().hits);
        CHECK(row.results[at].requests == row.results.front().requests);
        CHECK(row.results[at].bytes == row.results.front().bytes);
      }
    }
  }
}

TEST_CASE("the default has the best mean over the set") {
  const std::vector<Contender> all = contenders();
  std::vector<double> sums(all.size());
  for (const Generator& generator : generators()) {
    for (const Row& row : compare(generator.make(100'000), all)) {
      for (size_t at = 0; at < all.size(); ++at) sums[at] += row.results[at].hit_ratio();
    }
  }
  REQUIRE(all[1].name == page::kDefaultEvictionPolicy);
  for (size_t at = 2; at < all.size(); ++at) {
    CAPTURE(all[at].name);
    CHECK(sums[at] < sums[1]);
  }
}

TEST_CASE("the table has a line for each trace and size, and says where the worst was") {
  const std::vector<Contender> all = {
      {"belady",
       [](const Trace&, uint64_t) {
         return Result{.requests = 4, .hits = 3, .bytes = 4 << 20, .hit_bytes = 3 << 20};
       }},
      {"other", [](const Trace&, uint64_t) {
         return Result{.requests = 4, .hits = 1, .bytes = 4 << 20, .hit_bytes = 1 << 20};
       }}};
  TraceBuilder builder("tiny");
  builder.read_whole(1, 100 << 20);
  const std::string text = table(all, compare(builder.take(), all));
  CHECK(text.find("tiny     10%        10    75.0    25.0\n") != std::string::npos);
  CHECK(text.find("other                 25.00       25.00           50.00             50.0  tiny "
                  "at 1%\n") != std::string::npos);
}

}  // namespace blobcache::hit_ratio
