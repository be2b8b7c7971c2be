#include "store/page/frequency_sketch.h"

#include <algorithm>
#include <bit>

namespace blobcache::page {
namespace {

constexpr uint64_t kCounterMask = 15;
constexpr std::array<uint64_t, 4> kSeeds = {0xc3a5c85c97cb3127, 0xb492b66fbe98f273,
                                            0x9ae16a3b2f90404f, 0xcbf29ce484222325};

}  // namespace

FrequencySketch::FrequencySketch(size_t capacity)
    : words_(std::bit_ceil(std::max<size_t>(capacity, 16))), sample_(10 * words_.size()) {}

std::array<FrequencySketch::Place, FrequencySketch::kRows> FrequencySketch::places(
    uint64_t identity) const {
  std::array<Place, kRows> found{};
  for (size_t row = 0; row < kRows; ++row) {
    const uint64_t bits = (identity ^ (identity >> 32)) * kSeeds[row];
    // Each row has four of a word's counters to itself.
    found[row] = {.word = (bits >> 32) & (words_.size() - 1),
                  .shift = static_cast<uint8_t>(16 * row + 4 * ((bits >> 30) & 3))};
  }
  return found;
}

void FrequencySketch::add(uint64_t identity, uint8_t uses) {
  for (const Place& place : places(identity)) {
    const uint64_t old = (words_[place.word] >> place.shift) & kCounterMask;
    const uint64_t now = std::min<uint64_t>(old + uses, kMax);
    words_[place.word] += (now - old) << place.shift;
  }
  counted_ += uses;
  if (counted_ >= sample_) halve();
}

void FrequencySketch::take_over(uint64_t identity, uint8_t uses) {
  for (const Place& place : places(identity)) {
    const uint64_t old = (words_[place.word] >> place.shift) & kCounterMask;
    const uint64_t now = std::max<uint64_t>(old, uses);
    words_[place.word] += (now - old) << place.shift;
  }
}

uint8_t FrequencySketch::estimate(uint64_t identity) const {
  uint64_t least = kMax;
  for (const Place& place : places(identity)) {
    least = std::min(least, (words_[place.word] >> place.shift) & kCounterMask);
  }
  return static_cast<uint8_t>(least);
}

void FrequencySketch::halve() {
  for (uint64_t& word : words_) word = (word >> 1) & 0x7777777777777777;
  counted_ = 0;
}

}  // namespace blobcache::page
