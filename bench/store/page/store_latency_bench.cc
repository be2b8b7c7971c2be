// How long one 4 KiB read takes, from RAM and from the disk: alone, while a scan presses everything
// out of RAM, and while blobs are written. Prints the 50th and 99th percentiles, and how many of
// the reads that should have been hits were none.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kMemory = 256 * kMiB;
constexpr uint64_t kHot = 64 * kMiB;
constexpr uint64_t kCold = 1024 * kMiB;

using Clock = std::chrono::steady_clock;

int64_t nanoseconds(Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

struct Percentiles {
  int64_t p50 = 0;
  int64_t p99 = 0;
};

Percentiles percentiles(std::vector<int64_t>& times) {
  if (times.empty()) return {};
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 99 / 100]};
}

/// Does something over and over on a thread of its own for as long as it lives.
class Meanwhile {
 public:
  explicit Meanwhile(std::function<void()> what) {
    if (what == nullptr) return;
    thread_ = std::thread([this, what = std::move(what)] {
      while (!over_.load()) what();
    });
  }
  ~Meanwhile() {
    over_ = true;
    if (thread_.joinable()) thread_.join();
  }
  Meanwhile(const Meanwhile&) = delete;
  Meanwhile& operator=(const Meanwhile&) = delete;

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

/// Reads of a hot object; those that were not in RAM are no hits and do not count in the times.
/// Sets `missed` to their share of all.
Percentiles hits(Object& hot, double& missed) {
  std::vector<int64_t> times;
  uint64_t misses = 0;
  uint64_t state = 1;
  PinnedRange range;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(2);
  while (times.size() < 2'000'000 && Clock::now() < end) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const uint64_t offset = (state >> 20) % (hot.size_bytes() / kPageSize) * kPageSize;
    const Clock::time_point start = Clock::now();
    const bool hit = hot.try_read(offset, kPageSize, range);
    range.release();
    const Clock::duration took = Clock::now() - start;
    if (hit) {
      times.push_back(nanoseconds(took));
    } else {
      ++misses;
      require(hot.read_wait(offset, kPageSize).status());
    }
  }
  missed = static_cast<double>(misses) / static_cast<double>(times.size() + misses);
  return percentiles(times);
}

Percentiles disk_reads(BenchStore& store, Object& cold) {
  std::vector<int64_t> times;
  uint64_t state = 7;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(2);
  store.store().evict_memory(cold);
  PinnedRange range;
  while (Clock::now() < end) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const uint64_t offset = (state >> 20) % (cold.size_bytes() / kPageSize) * kPageSize;
    if (cold.try_read(offset, kPageSize, range)) continue;
    const Clock::time_point start = Clock::now();
    require(cold.read_wait(offset, kPageSize).status());
    times.push_back(nanoseconds(Clock::now() - start));
  }
  return percentiles(times);
}

void run() {
  BenchStore store(kMemory);
  const ObjectRef hot = store.put(kHot);
  const ObjectRef cold = store.put(kCold);
  const ObjectRef scanned = store.put(kCold);
  uint64_t at = 0;
  const auto scan = [&] {
    require(scanned->read_wait(at, Object::kMaxRead).status());
    at = (at + Object::kMaxRead) % kCold;
  };
  const auto write = [&] { store.put_and_drop(64 * kMiB); };
  struct Condition {
    const char* name;
    std::function<void()> meanwhile;
  };
  const std::vector<Condition> conditions{
      {"alone", nullptr}, {"under eviction by a scan", scan}, {"while blobs are written", write}};
  for (const Condition& condition : conditions) {
    BenchStore::warm(*hot);
    BenchStore::warm(*hot);
    const Meanwhile meanwhile(condition.meanwhile);
    double missed = 0;
    const Percentiles hit = hits(*hot, missed);
    const Percentiles disk = disk_reads(store, *cold);
    fmt::print(
        "{:26} RAM: p50 {:5} ns, p99 {:6} ns (p99 is {:.1f} times p50), {:.4f} % missed   disk: "
        "p50 {:4} us, p99 {:5} us\n",
        condition.name, hit.p50, hit.p99,
        static_cast<double>(hit.p99) / static_cast<double>(hit.p50), 100 * missed, disk.p50 / 1000,
        disk.p99 / 1000);
  }
}

}  // namespace
}  // namespace blobcache::page

int main() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  fmt::print("4 KiB reads\n");
  blobcache::page::run();
  return 0;
}
