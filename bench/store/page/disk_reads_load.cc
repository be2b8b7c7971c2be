// Reads one large object from the disk tier, as store_disk_reads.py asks:
//
//     disk_reads_load FOLDER SIZE_MIB MEMORY_MIB
//
// Puts an object of SIZE_MIB random mebibytes into a store in FOLDER and prints the path of its
// file and of itself: FILE PID. Then every line "seq|random BLOCK DEPTH SECONDS" on standard input
// is answered with reads a second, bytes that came from the disk for each byte read, the 50th and
// 99th percentile of a read's time in microseconds, and the share of the blocks wanted that memory
// had. Those are passed over and count as no reads.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "bench/store/page/bench_store.h"

namespace blobcache::page {
namespace {

/// Keeps `depth` reads under way until the time is over: each answer, on the store's thread, asks
/// for the next read.
class Reader {
 public:
  Reader(Object& object, bool random, uint64_t block, uint64_t depth)
      : object_(object),
        random_(random),
        block_(block),
        depth_(depth),
        blocks_(object.size_bytes() / block) {}

  void run(absl::Duration time) {
    const absl::Time start = absl::Now();
    end_ = start + time;
    {
      absl::MutexLock lock(&mutex_);
      under_way_ = depth_;
    }
    for (uint64_t i = 0; i < depth_; ++i) submit();
    over_.WaitForNotification();
    seconds_ = absl::ToDoubleSeconds(absl::Now() - start);
  }

  [[nodiscard]] double reads_per_second() {
    absl::MutexLock lock(&mutex_);
    return static_cast<double>(micros_.size()) / seconds_;
  }
  [[nodiscard]] uint64_t bytes_read() {
    absl::MutexLock lock(&mutex_);
    return micros_.size() * block_;
  }
  [[nodiscard]] double hit_share() {
    absl::MutexLock lock(&mutex_);
    return static_cast<double>(hits_) / static_cast<double>(hits_ + micros_.size());
  }
  [[nodiscard]] double percentile(double share) {
    absl::MutexLock lock(&mutex_);
    const auto at = micros_.begin() +
                    static_cast<std::ptrdiff_t>(share * static_cast<double>(micros_.size() - 1));
    std::nth_element(micros_.begin(), at, micros_.end());
    return *at;
  }

 private:
  /// Where the next block begins that memory does not have, if there is any.
  [[nodiscard]] uint64_t next_offset() {
    PinnedRange range;
    for (uint64_t hits = 0;; ++hits) {
      const uint64_t offset = next_block() * block_;
      if (hits == blocks_ || !object_.try_read(offset, block_, range)) {
        absl::MutexLock lock(&mutex_);
        hits_ += hits;
        return offset;
      }
      range.release();
    }
  }

  [[nodiscard]] uint64_t next_block() {
    absl::MutexLock lock(&mutex_);
    if (!random_) return next_++ % blocks_;
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return (state_ >> 20) % blocks_;
  }

  void submit() {
    const uint64_t offset = next_offset();
    const absl::Time start = absl::Now();
    object_.read(offset, block_, [this, start](absl::StatusOr<PinnedRange> range) {
      require(range.status());
      range->release();
      done(absl::ToDoubleMicroseconds(absl::Now() - start));
    });
  }

  void done(double micros) {
    {
      absl::MutexLock lock(&mutex_);
      micros_.push_back(micros);
      if (absl::Now() >= end_) {
        if (--under_way_ == 0) over_.Notify();
        return;
      }
    }
    submit();
  }

  Object& object_;
  const bool random_;
  const uint64_t block_;
  const uint64_t depth_;
  const uint64_t blocks_;
  absl::Time end_;
  absl::Notification over_;
  double seconds_ = 0;
  absl::Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t state_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t hits_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<double> micros_ ABSL_GUARDED_BY(mutex_);
};

int run(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: disk_reads_load FOLDER SIZE_MIB MEMORY_MIB\n");
    return 2;
  }
  BenchStore store(std::stoull(argv[3]) << 20, argv[1]);
  const ObjectRef object = store.put(std::stoull(argv[2]) << 20);
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(store.path() / "objects")) {
    if (entry.is_regular_file() && entry.path().extension() != ".map") {
      fmt::print("{} {}\n", entry.path().string(), ::getpid());
    }
  }
  std::fflush(stdout);
  std::string order;
  uint64_t block = 0;
  uint64_t depth = 0;
  double seconds = 0;
  while (std::cin >> order >> block >> depth >> seconds) {
    store.store().evict_memory(*object);
    const uint64_t before = store.store().stats().disk_read_bytes;
    Reader reader(*object, order == "random", block, depth);
    reader.run(absl::Seconds(seconds));
    const auto from_disk = static_cast<double>(store.store().stats().disk_read_bytes - before);
    fmt::print("{:.1f} {:.4f} {:.1f} {:.1f} {:.5f}\n", reader.reads_per_second(),
               from_disk / static_cast<double>(reader.bytes_read()), reader.percentile(0.5),
               reader.percentile(0.99), reader.hit_share());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace blobcache::page

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return blobcache::page::run(argc, argv);
}
