// The largest overshoot of the disk budget while eight writers write as fast as they can: what
// their files take on the disk, looked at all the time, beside the budget.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBudget = 256 * kMiB;
constexpr int kWriters = 8;
constexpr absl::Duration kTime = absl::Seconds(5);

uint64_t bytes_on_disk(const std::filesystem::path& path) {
  uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    struct stat info{};
    if (::lstat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

/// Writes objects of up to 256 MiB, keeping none, until the time is over; most end for want of
/// room.
void write_on(PageStore& store, uint32_t seed, absl::Time end, std::atomic<uint64_t>& written,
              std::atomic<uint64_t>& refused) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> piece(kMiB);
  while (absl::Now() < end) {
    auto writer = store.create(Retention::kKept, 0);
    require(writer.status());
    for (uint64_t left = 1 + random() % 256; left > 0; --left) {
      for (size_t at = 0; at < piece.size(); at += 512)
        piece[at] = static_cast<std::byte>(random() | 1);
      const absl::Status status = (*writer)->append(piece);
      if (status.ok()) {
        written += piece.size();
        continue;
      }
      if (!absl::IsResourceExhausted(status)) require(status);
      ++refused;
      break;
    }
  }
}

void run() {
  BenchStore store(64 * kMiB, {}, kBudget);
  const absl::Time end = absl::Now() + kTime;
  std::atomic<uint64_t> written{0};
  std::atomic<uint64_t> refused{0};
  std::vector<std::thread> writers;
  for (uint32_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([&, i] { write_on(store.store(), i, end, written, refused); });
  }
  uint64_t most = 0;
  uint64_t looks = 0;
  while (absl::Now() < end) {
    most = std::max(most, bytes_on_disk(store.path()));
    ++looks;
  }
  for (std::thread& writer : writers) writer.join();
  fmt::print("{} writers, {} MiB written, {} times refused, {} looks\n", kWriters,
             written.load() / kMiB, refused.load(), looks);
  fmt::print(
      "budget {} bytes, at most {} bytes on disk: {:+} bytes ({} write batch of 1 MiB allowed)\n",
      kBudget, most, static_cast<int64_t>(most) - static_cast<int64_t>(kBudget), 1);
}

}  // namespace
}  // namespace blobcache::page

int main() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  blobcache::page::run();
  return 0;
}
