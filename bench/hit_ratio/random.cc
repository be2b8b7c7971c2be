#include "bench/hit_ratio/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace blobcache::hit_ratio {

double Random::share() {
  constexpr double kStep = 1.0 / 9007199254740992.0;  // 2^-53: every value is exact
  return static_cast<double>(engine_() >> 11) * kStep;
}

double Random::log_uniform(double low, double high) { return low * std::pow(high / low, share()); }

double Random::log_normal(double median, double sigma) {
  // Box and Muller's transform; 1 - share() is never 0.
  const double radius = std::sqrt(-2 * std::log(1 - share()));
  return median * std::exp(sigma * radius * std::cos(2 * std::numbers::pi * share()));
}

Zipf::Zipf(size_t count, double skew) : sums_(count) {
  double sum = 0;
  for (size_t rank = 0; rank < count; ++rank) {
    sum += std::pow(static_cast<double>(rank + 1), -skew);
    sums_[rank] = sum;
  }
  for (double& at : sums_) at /= sum;
}

uint32_t Zipf::draw(Random& random) const {
  const auto at = std::upper_bound(sums_.begin(), sums_.end() - 1, random.share());
  return static_cast<uint32_t>(at - sums_.begin());
}

}  // namespace blobcache::hit_ratio
