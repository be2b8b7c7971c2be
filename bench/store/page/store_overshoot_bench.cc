// The largest overshoot of the disk budget while eight writers write as fast as they can, alone and
// beside fills from sources, with direct I/O and without: what the files take on the disk, looked
// at all the time, beside the budget.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/store/page/bench_source.h"
#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBudget = 256 * kMiB;
constexpr int kWriters = 8;
constexpr absl::Duration kTime = absl::Seconds(5);

/// What each file takes on the disk, by inode.
using Look = std::unordered_map<ino_t, uint64_t>;

Look look_at(const std::filesystem::path& path) {
  Look look;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    struct stat info{};
    if (::lstat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    look[info.st_ino] = static_cast<uint64_t>(info.st_blocks) * 512;
  }
  return look;
}

/// What the files took between two looks, and no more: a look takes a while, and one alone would
/// count a file that is gone by the time it comes to another that has taken its room.
uint64_t taken_between(const Look& before, const Look& after) {
  uint64_t bytes = 0;
  for (const auto& [inode, blocks] : after) {
    const auto found = before.find(inode);
    if (found != before.end()) bytes += std::min(found->second, blocks);
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

/// Reads what a source has, many times as much as the budget, so that the disk cache fills and
/// evicts all the while.
void fill_on(PageStore& store, uint32_t seed, absl::Time end, std::atomic<uint64_t>& read) {
  constexpr uint64_t kSize = 4 * kBudget;
  ObjectKey key;
  key.bytes.fill(static_cast<uint8_t>(0xf0 + seed));
  const ObjectRef object = store.attach_cached({key, kSize, std::make_shared<BenchSource>(seed)});
  for (uint64_t at = 0; absl::Now() < end; at = (at + Object::kMaxRead) % kSize) {
    require(object->read_wait(at, Object::kMaxRead).status());
    read += Object::kMaxRead;
  }
}

void run(const char* title, DirectIo direct_io, uint32_t fillers) {
  PageStoreOptions options;
  options.memory_bytes = 64 * kMiB;
  options.disk_bytes = kBudget;
  options.direct_io = direct_io;
  BenchStore store(options);
  const absl::Time end = absl::Now() + kTime;
  std::atomic<uint64_t> written{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<uint64_t> read{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] { write_on(store.store(), i, end, written, refused); });
  }
  for (uint32_t i = 0; i < fillers; ++i) {
    threads.emplace_back([&, i] { fill_on(store.store(), i, end, read); });
  }
  uint64_t most = 0;
  uint64_t looks = 0;
  Look last;
  while (absl::Now() < end) {
    Look look = look_at(store.path());
    most = std::max(most, taken_between(last, look));
    last = std::move(look);
    ++looks;
  }
  for (std::thread& thread : threads) thread.join();
  fmt::print("{}: {} MiB written, {} times refused; {} MiB read from sources, {} of them filled\n",
             title, written.load() / kMiB, refused.load(), read.load() / kMiB,
             store.store().stats().fill_bytes / kMiB);
  fmt::print("  budget {} bytes, at most {} bytes on disk in {} looks: {:+} bytes\n", kBudget, most,
             looks, static_cast<int64_t>(most) - static_cast<int64_t>(kBudget));
}

}  // namespace
}  // namespace blobcache::page

int main() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  using blobcache::page::DirectIo;
  fmt::print("{} writers; one write batch of 1 MiB may be beyond the budget\n",
             blobcache::page::kWriters);
  blobcache::page::run("writers alone", DirectIo::kAuto, 0);
  blobcache::page::run("beside fills from two sources", DirectIo::kAuto, 2);
  blobcache::page::run("the same with direct_io = off", DirectIo::kOff, 2);
  return 0;
}
