// A 4 KiB read that L0 holds, through the public call: pin, view, let go. By one thread and by two,
// over many extents and on a single one, beside two threads that share nothing: what the machine
// itself scales by. Ends with the ratios.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bench/store/page/bench_medians.h"
#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kExtents = 2048;

/// An object that a store's memory holds all of, and the store, one of two. Made once, for every
/// benchmark and thread.
Object& warm_object(int store) {
  struct Warm {
    BenchStore store{uint64_t{1} << 30};
    ObjectRef object = store.put(kExtents * kExtentSize);
    Warm() { BenchStore::warm(*object); }
  };
  static std::array<Warm, 2> warm;
  return *warm.at(static_cast<size_t>(store)).object;
}

/// Numbers cheaper than the read that they are for (xorshift).
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

 private:
  uint64_t state_;
};

void read_hit_of(benchmark::State& state, Object& object) {
  const auto pages = static_cast<uint64_t>(state.range(0)) * kPagesPerExtent;
  Dice dice(static_cast<uint64_t>(state.thread_index()) + 1);
  PinnedRange range;
  uint64_t missed = 0;
  for (auto _ : state) {
    const uint64_t offset = (dice.next() % pages) << kPageShift;
    missed += object.try_read(offset, kPageSize, range) ? 0 : 1;
    benchmark::DoNotOptimize(range.pieces().data());
    range.release();
  }
  state.counters["missed"] = static_cast<double>(missed);
  state.counters["reads"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void read_hit(benchmark::State& state) { read_hit_of(state, warm_object(0)); }

/// Each thread reads from a store of its own, so that they share nothing: what the machine itself
/// gives to two threads that do this work. (Where two processors are one core's, that is less than
/// twice one thread's rate.)
void read_hit_apart(benchmark::State& state) {
  read_hit_of(state, warm_object(state.thread_index()));
}

/// As many locked operations as a hit makes, each thread on a word of its own.
void private_words(benchmark::State& state) {
  struct alignas(128) Word {
    std::atomic<uint64_t> value{0};
  };
  static std::vector<Word> words(2);
  std::atomic<uint64_t>& word = words.at(static_cast<size_t>(state.thread_index())).value;
  for (auto _ : state) {
    for (int i = 0; i < 4; ++i) word.fetch_add(1, std::memory_order_relaxed);
  }
  state.counters["reads"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

int run(int argc, char** argv) {
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark("private_words", private_words)->Threads(threads)->UseRealTime();
    for (const int64_t extents : {int64_t{2048}, int64_t{1}}) {
      benchmark::RegisterBenchmark("read_hit", read_hit)
          ->ArgName("extents")
          ->Arg(extents)
          ->Threads(threads)
          ->UseRealTime();
    }
    benchmark::RegisterBenchmark("read_hit_apart", read_hit_apart)
        ->ArgName("extents")
        ->Arg(kExtents)
        ->Threads(threads)
        ->UseRealTime();
  }
  Medians medians;
  if (!run_in_turns(argc, argv, 9, medians)) return 2;
  medians.for_each([](const std::string& name, const std::map<int64_t, Medians::Median>& by) {
    if (!by.contains(1) || !by.contains(2)) return;
    fmt::print("{:24} two threads have {:.2f} of one thread's rate\n", name,
               by.at(2).counters.at("reads") / by.at(1).counters.at("reads"));
  });
  return 0;
}

}  // namespace
}  // namespace blobcache::page

int main(int argc, char** argv) { return blobcache::page::run(argc, argv); }
