#include "test/blockdev/memory_device.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "absl/time/time.h"

namespace blobcache::blockdev {

void MemoryDevice::take(const Call& call, absl::AnyInvocable<void()> work) {
  {
    absl::MutexLock lock(&mutex_);
    calls_.push_back(call);
    if (held_) {
      waiting_.push_back(std::move(work));
      return;
    }
  }
  work();
}

absl::Status MemoryDevice::error() {
  absl::MutexLock lock(&mutex_);
  return error_;
}

page::PendingRead MemoryDevice::read(uint64_t offset, uint64_t length, ReadDone done) {
  take({Call::Kind::kRead, offset, length},
       [this, offset, length, done = std::move(done)]() mutable {
         if (const absl::Status status = error(); !status.ok()) {
           done(status);
           return;
         }
         DeviceBytes bytes;
         {
           absl::MutexLock lock(&mutex_);
           bytes.owned = ByteBuffer::copy_of(absl::MakeConstSpan(bytes_).subspan(offset, length));
         }
         done(std::move(bytes));
       });
  return {};
}

page::PendingRead MemoryDevice::map(uint64_t offset, uint64_t length, size_t max_runs,
                                    MapDone done) {
  take({Call::Kind::kMap, offset, length},
       [this, offset, length, max_runs, done = std::move(done)]() mutable {
         if (const absl::Status status = error(); !status.ok()) {
           done(status);
           return;
         }
         std::vector<page::MapRun> runs;
         {
           absl::MutexLock lock(&mutex_);
           for (uint64_t at = offset; at < offset + length; ++at) {
             const page::Place place = written_[at] ? page::Place::kMemory : page::Place::kZero;
             if (runs.empty() || runs.back().place != place) {
               if (runs.size() == max_runs) break;
               runs.push_back({0, place});
             }
             ++runs.back().length;
           }
         }
         done(std::move(runs));
       });
  return {};
}

void MemoryDevice::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) {
  take({Call::Kind::kWrite, offset, bytes.size(), fua},
       [this, offset, bytes, done = std::move(done)]() mutable {
         const absl::Status status = error();
         if (status.ok()) {
           absl::MutexLock lock(&mutex_);
           const auto at = static_cast<std::ptrdiff_t>(offset);
           std::copy(bytes.begin(), bytes.end(), bytes_.begin() + at);
           std::fill_n(written_.begin() + at, bytes.size(), true);
         }
         done(status);
       });
}

void MemoryDevice::clear(uint64_t offset, uint64_t length, bool allocated) {
  absl::MutexLock lock(&mutex_);
  const auto at = static_cast<std::ptrdiff_t>(offset);
  std::fill_n(bytes_.begin() + at, length, std::byte{0});
  std::fill_n(written_.begin() + at, length, allocated);
}

void MemoryDevice::write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done) {
  take({Call::Kind::kZeroes, offset, length, how.fua, how.no_hole, how.fast},
       [this, offset, length, how, done = std::move(done)]() mutable {
         absl::Status status = error();
         // As if it had to write them out then.
         if (how.fast && how.no_hole) status = absl::UnimplementedError("not faster");
         if (status.ok()) clear(offset, length, how.no_hole);
         done(status);
       });
}

void MemoryDevice::trim(uint64_t offset, uint64_t length, bool fua, Done done) {
  take({Call::Kind::kTrim, offset, length, fua},
       [this, offset, length, done = std::move(done)]() mutable {
         const absl::Status status = error();
         if (status.ok()) clear(offset, length, false);
         done(status);
       });
}

void MemoryDevice::flush(Done done) {
  take({Call::Kind::kFlush}, [this, done = std::move(done)]() mutable { done(error()); });
}

void MemoryDevice::grow(uint64_t size_bytes) {
  const absl::MutexLock lock(&mutex_);
  bytes_.resize(size_bytes);
  written_.resize(size_bytes);
  size_.store(size_bytes);
}

void MemoryDevice::hold() {
  absl::MutexLock lock(&mutex_);
  held_ = true;
}

void MemoryDevice::wait_for(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.size() >= count;
  };
  REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20)));
}

void MemoryDevice::release(size_t count) {
  wait_for(count);
  std::deque<absl::AnyInvocable<void()>> waiting;
  {
    absl::MutexLock lock(&mutex_);
    held_ = false;
    waiting.swap(waiting_);
  }
  for (auto& work : waiting) work();
}

void MemoryDevice::fail(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  error_ = status;
}

std::vector<MemoryDevice::Call> MemoryDevice::take_calls() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(calls_, {});
}

std::string MemoryDevice::content(uint64_t offset, uint64_t length) {
  absl::MutexLock lock(&mutex_);
  const auto* begin = reinterpret_cast<const char*>(bytes_.data()) + offset;
  return {begin, begin + length};
}

}  // namespace blobcache::blockdev
