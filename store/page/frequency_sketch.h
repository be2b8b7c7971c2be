#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace blobcache::page {

/// About how often each identity was used lately: a count-min sketch (Cormode and Muthukrishnan:
/// "An improved data stream summary", 2005) of counters up to 15, all of them halved after each
/// `sample` uses, so that what was popular once is forgotten (Einziger, Friedman and Manes:
/// "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 2017).
///
/// Not thread-safe. 8 bytes for each of `capacity` identities, a power of two; a call is O(1), the
/// halving amortised over the uses between.
class FrequencySketch {
 public:
  static constexpr uint8_t kMax = 15;

  /// For about `capacity` identities of interest.
  explicit FrequencySketch(size_t capacity);

  /// How many identities of interest it is good for.
  [[nodiscard]] size_t capacity() const { return words_.size(); }

  /// Counts `uses` uses of `identity`.
  void add(uint64_t identity, uint8_t uses);
  /// `identity` was used at least `uses` times, as another sketch had it. Counts nothing towards a
  /// halving.
  void take_over(uint64_t identity, uint8_t uses);
  /// At least the uses that were counted since they were halved, up to kMax; more when other
  /// identities share all its counters.
  [[nodiscard]] uint8_t estimate(uint64_t identity) const;
  /// Uses between two halvings, from now on.
  void set_sample(size_t uses) { sample_ = uses; }

 private:
  static constexpr size_t kRows = 4;

  /// A counter: which word, and by how many bits it is shifted.
  struct Place {
    size_t word;
    uint8_t shift;
  };
  [[nodiscard]] std::array<Place, kRows> places(uint64_t identity) const;
  void halve();

  std::vector<uint64_t> words_;  ///< 16 counters of 4 bits each
  size_t sample_;
  size_t counted_ = 0;
};

}  // namespace blobcache::page
