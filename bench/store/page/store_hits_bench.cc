// A 4 KiB read that L0 holds, through the public call: pin, view, let go.

#include <benchmark/benchmark.h>

#include <cstdint>

#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kExtents = 2048;

/// A store whose memory holds all of one object. Made once, for every benchmark and thread.
Object& warm_object() {
  static BenchStore store(uint64_t{1} << 30);
  static const ObjectRef object = [] {
    ObjectRef made = store.put(kExtents * kExtentSize);
    BenchStore::warm(*made);
    return made;
  }();
  return *object;
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

void read_hit(benchmark::State& state) {
  Object& object = warm_object();
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
BENCHMARK(read_hit)->ArgName("extents")->Arg(2048)->Arg(1)->Repetitions(5)->ReportAggregatesOnly();
BENCHMARK(read_hit)
    ->ArgName("extents")
    ->Arg(2048)
    ->Arg(1)
    ->Threads(2)
    ->UseRealTime()
    ->Repetitions(5)
    ->ReportAggregatesOnly();

}  // namespace
}  // namespace blobcache::page

BENCHMARK_MAIN();
