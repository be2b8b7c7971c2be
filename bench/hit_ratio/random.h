#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace blobcache::hit_ratio {

/// Random numbers that are the same with every standard library: std's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  /// At least 0, less than 1.
  [[nodiscard]] double share();
  /// At least 0, less than `bound`, which is at least 1.
  [[nodiscard]] uint64_t below(uint64_t bound) { return engine_() % bound; }
  [[nodiscard]] bool chance(double probability) { return share() < probability; }
  /// Log-uniform: each doubling is as likely as the next. At least `low` (> 0), less than `high`.
  [[nodiscard]] double log_uniform(double low, double high);
  /// Log-normal with this median; `sigma` is the standard deviation of the natural logarithm.
  [[nodiscard]] double log_normal(double median, double sigma);

 private:
  std::mt19937_64 engine_;
};

/// Ranks 0 to count - 1, where rank r comes up in proportion to 1 / (r + 1)^skew.
class Zipf {
 public:
  Zipf(size_t count, double skew);
  [[nodiscard]] uint32_t draw(Random& random) const;
  [[nodiscard]] size_t count() const { return sums_.size(); }

 private:
  std::vector<double> sums_;  ///< of the weights up to each rank, the last being 1
};

}  // namespace blobcache::hit_ratio
