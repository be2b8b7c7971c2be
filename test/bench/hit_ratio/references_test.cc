#include "bench/hit_ratio/references.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "bench/hit_ratio/random.h"

namespace blobcache::hit_ratio {
namespace {

/// A read of an extent of one byte for each letter.
Trace letters(std::string_view text) {
  TraceBuilder trace("letters");
  for (const char letter : text) trace.read(static_cast<uint64_t>(letter), 0, 1);
  return trace.take();
}

/// The most hits that any choice of victims can give, by trying all of them.
uint64_t best_hits(const Trace& trace, size_t capacity, size_t at, std::vector<uint32_t> held) {
  if (at == trace.requests.size()) return 0;
  const uint32_t extent = trace.requests[at].extent;
  if (std::find(held.begin(), held.end(), extent) != held.end()) {
    return 1 + best_hits(trace, capacity, at + 1, held);
  }
  uint64_t best = best_hits(trace, capacity, at + 1, held);  // passing the cache by
  if (held.size() < capacity) {
    held.push_back(extent);
    return std::max(best, best_hits(trace, capacity, at + 1, held));
  }
  for (uint32_t& victim : held) {
    const uint32_t before = victim;
    victim = extent;
    best = std::max(best, best_hits(trace, capacity, at + 1, held));
    victim = before;
  }
  return best;
}

}  // namespace

TEST_CASE("Belady's MIN on the example of the textbooks") {
  // Three frames: seven misses of twelve, as ever.
  CHECK(replay_belady(letters("123412512345"), 3).hits == 5);
  CHECK(replay_lru(letters("123412512345"), 3).hits == 2);
}

TEST_CASE("Belady's MIN is as good as trying everything") {
  Random random(1);
  for (int round = 0; round < 50; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += static_cast<char>('a' + random.below(5));
    CAPTURE(text);
    const Trace trace = letters(text);
    for (const unsigned capacity : {1U, 2U, 3U}) {
      CHECK(replay_belady(trace, capacity).hits == best_hits(trace, capacity, 0, {}));
    }
  }
}

TEST_CASE("Belady's MIN leaves a newcomer out that is needed last") {
  CHECK(replay_belady(letters("abxabyab"), 2).hits == 4);
}

TEST_CASE("what is larger than the cache passes it by") {
  TraceBuilder builder("sizes");
  for (int i = 0; i < 3; ++i) {
    builder.read(1, 0, 10);
    builder.read(2, 0, 100);
  }
  const Trace trace = builder.take();
  for (const Result& result :
       {replay_belady(trace, 50), replay_lru(trace, 50), replay_arc(trace, 50)}) {
    CHECK(result.hits == 2);
    CHECK(result.hit_bytes == 20);
    CHECK(result.bytes == 330);
    CHECK(result.requests == 6);
  }
}

TEST_CASE("LRU gives up what was read longest ago") {
  CHECK(replay_lru(letters("abcabc"), 2).hits == 0);
  CHECK(replay_lru(letters("abaca"), 2).hits == 2);
}

TEST_CASE("ARC keeps what was read twice while others are read once") {
  CHECK(replay_arc(letters("ababcdefab"), 4).hits == 4);
  CHECK(replay_lru(letters("ababcdefab"), 4).hits == 2);
}

}  // namespace blobcache::hit_ratio
