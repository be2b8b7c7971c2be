#include "bench/hit_ratio/generators.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "bench/hit_ratio/random.h"
#include "store/page/geometry.h"

namespace blobcache::hit_ratio {
namespace {

bool same(const Trace& a, const Trace& b) {
  return a.sizes == b.sizes && std::equal(a.requests.begin(), a.requests.end(), b.requests.begin(),
                                          b.requests.end(), [](const Request& x, const Request& y) {
                                            return x.extent == y.extent && x.touches == y.touches;
                                          });
}

}  // namespace

TEST_CASE("every generator makes what it is asked for, the same each time") {
  for (const Generator& generator : generators()) {
    CAPTURE(generator.name);
    const Trace trace = generator.make(20'000);
    CHECK(trace.name == generator.name);
    CHECK(trace.requests.size() >= 20'000);
    CHECK(same(trace, generator.make(20'000)));
    for (const Request& request : trace.requests) {
      REQUIRE(request.extent < trace.sizes.size());
      REQUIRE(request.touches >= 1);
    }
    CHECK(std::all_of(trace.sizes.begin(), trace.sizes.end(),
                      [](uint32_t size) { return size >= 1 && size <= page::kExtentSize; }));
  }
}

TEST_CASE("Zipf's ranks come up in proportion to their weights") {
  Random random(1);
  const Zipf ranks(3, 1.0);  // 6/11, 3/11, 2/11
  std::vector<int> counts(3);
  for (int i = 0; i < 110'000; ++i) ++counts[ranks.draw(random)];
  CHECK(counts[0] == doctest::Approx(60'000).epsilon(0.02));
  CHECK(counts[1] == doctest::Approx(30'000).epsilon(0.02));
  CHECK(counts[2] == doctest::Approx(20'000).epsilon(0.02));
}

TEST_CASE("random numbers keep their bounds") {
  Random random(1);
  int small = 0;
  int below_median = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double share = random.share();
    REQUIRE((share >= 0 && share < 1));
    const double spread = random.log_uniform(1, 10'000);
    REQUIRE((spread >= 1 && spread < 10'000));
    small += spread < 100 ? 1 : 0;
    below_median += random.log_normal(50, 2) < 50 ? 1 : 0;
  }
  CHECK(small == doctest::Approx(5'000).epsilon(0.05));
  CHECK(below_median == doctest::Approx(5'000).epsilon(0.05));
}

}  // namespace blobcache::hit_ratio
