// What a frame costs: acquire and release, and memory from the pool beside memory fresh from the
// kernel.

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "bench/store/page/bench_allocations.h"
#include "store/page/frame_pool.h"

namespace blobcache::page {
namespace {

constexpr PageMask kAllPages = ~PageMask{0};
constexpr uint64_t kMiB = uint64_t{1} << 20;

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
  for (const FrameRef frame : taken) pool.release_pinned(frame);
}

void frame_acquire_release(benchmark::State& state) {
  static FramePool pool(256 * kMiB);
  if (state.thread_index() == 0) warm(pool, 64);
  const uint64_t before = allocated_bytes();
  for (auto _ : state) {
    const std::optional<FrameRef> frame = pool.acquire(kAllPages);
    benchmark::DoNotOptimize(frame);
    pool.release_pinned(*frame);
  }
  state.counters["allocated_bytes_per_op"] =
      static_cast<double>(allocated_bytes() - before) / static_cast<double>(state.iterations());
}
BENCHMARK(frame_acquire_release)->Repetitions(5)->ReportAggregatesOnly();
BENCHMARK(frame_acquire_release)->Threads(2)->Repetitions(5)->ReportAggregatesOnly();

void memory_from_pool(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(0)) * kMiB;
  FramePool pool(64 * kMiB);
  warm(pool, size / kExtentSize);
  std::vector<FrameRef> frames(size / kExtentSize);
  const uint64_t before = allocated_bytes();
  for (auto _ : state) {
    for (FrameRef& frame : frames) {
      frame = *pool.acquire(kAllPages);
      touch(pool.data(frame.index), kExtentSize);
    }
    for (const FrameRef frame : frames) pool.release_pinned(frame);
  }
  state.counters["allocated_bytes_per_op"] =
      static_cast<double>(allocated_bytes() - before) / static_cast<double>(state.iterations());
}
BENCHMARK(memory_from_pool)->Arg(1)->Arg(4)->Arg(16)->Repetitions(5)->ReportAggregatesOnly();

void memory_fresh(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(0)) * kMiB;
  for (auto _ : state) {
    void* memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch(static_cast<std::byte*>(memory), size);
    ::munmap(memory, size);
  }
  state.counters["allocated_bytes_per_op"] = static_cast<double>(size);
}
BENCHMARK(memory_fresh)->Arg(1)->Arg(4)->Arg(16)->Repetitions(5)->ReportAggregatesOnly();

}  // namespace
}  // namespace blobcache::page

BENCHMARK_MAIN();
