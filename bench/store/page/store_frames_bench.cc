// What a frame costs: acquire and release; and memory from the pool beside memory fresh from the
// kernel, for requests of several sizes. Ends with the table: time and bytes allocated an
// operation, and the ratios.

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "bench/store/page/bench_allocations.h"
#include "bench/store/page/bench_medians.h"
#include "store/page/frame_pool.h"

namespace blobcache::page {
namespace {

constexpr PageMask kAllPages = ~PageMask{0};
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSizes[] = {1, 4, 16};  // MiB

void touch(std::byte* memory, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kPageSize) {
    *static_cast<volatile std::byte*>(memory + at) = std::byte{1};
  }
}

/// Frames that were full once: what every further use gets.
void warm(FramePool& pool, size_t frames) {
  std::vector<FrameRef> taken;
  for (size_t i = 0; i < frames; ++i) {
    taken.push_back(*pool.acquire(kAllPages));
    touch(pool.data(taken.back().index), kExtentSize);
  }
  for (const FrameRef frame : taken) pool.release(frame.index);
}

/// What one operation gets, measured: of the heap, and of the kernel while it has its memory.
/// `take` touches all of it and `give_back` lets it go; looked at beside the timed loop, since a
/// look costs more than they.
template <typename Take, typename GiveBack>
void count_allocations(benchmark::State& state, const Take& take, const GiveBack& give_back) {
  constexpr uint64_t kLooks = 16;
  uint64_t heap = 0;
  int64_t kernel = 0;
  for (uint64_t i = 0; i < kLooks; ++i) {
    const uint64_t heap_before = allocated_bytes();
    const auto kernel_before = static_cast<int64_t>(resident_bytes());
    take();
    kernel += static_cast<int64_t>(resident_bytes()) - kernel_before;
    heap += allocated_bytes() - heap_before;
    give_back();
  }
  state.counters["heap_bytes"] = static_cast<double>(heap) / kLooks;
  state.counters["kernel_bytes"] = static_cast<double>(kernel) / kLooks;
}

void frame_acquire_release(benchmark::State& state) {
  static FramePool pool(256 * kMiB);
  if (state.thread_index() == 0) warm(pool, 64);
  const uint64_t before = allocated_bytes();
  for (auto _ : state) {
    std::optional<FrameRef> frame = pool.acquire(kAllPages);
    benchmark::DoNotOptimize(frame);
    pool.release(frame->index);
  }
  state.counters["heap_bytes"] =
      static_cast<double>(allocated_bytes() - before) / static_cast<double>(state.iterations());
}

void memory_from_pool(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(0)) * kMiB;
  FramePool pool(64 * kMiB);
  warm(pool, size / kExtentSize);
  std::vector<FrameRef> frames(size / kExtentSize);
  const auto take = [&] {
    for (FrameRef& frame : frames) {
      frame = *pool.acquire(kAllPages);
      touch(pool.data(frame.index), kExtentSize);
    }
  };
  const auto give_back = [&] {
    for (const FrameRef frame : frames) pool.release(frame.index);
  };
  for (auto _ : state) {
    take();
    give_back();
  }
  count_allocations(state, take, give_back);
}

void memory_fresh(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(0)) * kMiB;
  void* memory = nullptr;
  const auto take = [&] {
    memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch(static_cast<std::byte*>(memory), size);
  };
  const auto give_back = [&] { ::munmap(memory, size); };
  for (auto _ : state) {
    take();
    give_back();
  }
  count_allocations(state, take, give_back);
}

void print_table(const Medians& medians) {
  const auto row = [](const char* name, const Medians::Median& median) {
    fmt::print("           {:8}{:10.1f} us   {:10.0f} bytes of the heap, {:10.0f} of the kernel\n",
               name, median.time / 1000, median.counters.at("heap_bytes"),
               median.counters.at("kernel_bytes"));
  };
  for (const uint64_t size : kSizes) {
    const Medians::Median pool = medians.of(fmt::format("memory_from_pool MiB:{}", size));
    const Medians::Median fresh = medians.of(fmt::format("memory_fresh MiB:{}", size));
    if (pool.counters.empty() || fresh.counters.empty()) continue;
    fmt::print("{:4} MiB\n", size);
    row("pool", pool);
    row("fresh", fresh);
    fmt::print("           the pool takes {:.3f} of the time of fresh memory\n",
               pool.time / fresh.time);
  }
}

int run(int argc, char** argv) {
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark("frame_acquire_release", frame_acquire_release)->Threads(threads);
  }
  for (const uint64_t size : kSizes) {
    const auto argument = static_cast<int64_t>(size);
    benchmark::RegisterBenchmark("memory_from_pool", memory_from_pool)
        ->ArgName("MiB")
        ->Arg(argument);
    benchmark::RegisterBenchmark("memory_fresh", memory_fresh)->ArgName("MiB")->Arg(argument);
  }
  Medians medians;
  if (!run_in_turns(argc, argv, 5, medians)) return 2;
  print_table(medians);
  return 0;
}

}  // namespace
}  // namespace blobcache::page

int main(int argc, char** argv) { return blobcache::page::run(argc, argv); }
