#include "test/fusefs/fake_image.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "store/page/geometry.h"

namespace blobcache::fusefs {

LaterThread::LaterThread() : thread_([this] { loop(); }) {}

LaterThread::~LaterThread() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
    held_ = false;
  }
  thread_.join();
}

void LaterThread::hold() {
  const absl::MutexLock lock(&mutex_);
  held_ = true;
}

void LaterThread::let_go() {
  const absl::MutexLock lock(&mutex_);
  held_ = false;
}

void LaterThread::wait_for_held(size_t count) {
  const absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return held_ && ends_.size() >= count;
  };
  mutex_.Await(absl::Condition(&enough));
}

void LaterThread::run(absl::AnyInvocable<void()> end) {
  const bool is_turn = used_ && runs_.fetch_add(1) % 2 == 0;
  {
    const absl::MutexLock lock(&mutex_);
    if (held_ || is_turn) {
      ends_.push_back(std::move(end));
      return;
    }
  }
  end();
}

void LaterThread::loop() {
  while (true) {
    absl::AnyInvocable<void()> end;
    {
      const absl::MutexLock lock(&mutex_);
      const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return !held_ && (stopping_ || !ends_.empty());
      };
      mutex_.Await(absl::Condition(&work));
      if (ends_.empty()) return;
      end = std::move(ends_.front());
      ends_.pop_front();
    }
    end();
  }
}

FakeImage::FakeImage(std::string bytes, Size size, LaterThread& later)
    : size_(size), later_(later), bytes_(std::move(bytes)) {}

std::string FakeImage::bytes() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return bytes_;
}

void FakeImage::set_length(uint64_t length) {
  const absl::MutexLock lock(&mutex_);
  bytes_.resize(length, '\0');
}

void FakeImage::fail_with(absl::Status status) {
  const absl::MutexLock lock(&mutex_);
  failure_ = std::move(status);
}

uint64_t FakeImage::size_bytes() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return bytes_.size();
}

bool FakeImage::try_read(uint64_t offset, absl::Span<std::byte> into) {
  const absl::ReaderMutexLock lock(&mutex_);
  if (offset > bytes_.size() || into.size() > bytes_.size() - offset) return false;
  std::memcpy(into.data(), bytes_.data() + offset, into.size());
  return true;
}

void FakeImage::read(uint64_t offset, absl::Span<std::byte> into, volume::Done done) {
  later_.run([this, offset, into, done = std::move(done)]() mutable {
    const bool inside = try_read(offset, into);
    done(inside ? absl::OkStatus() : absl::OutOfRangeError("beyond the end"));
  });
}

absl::Status FakeImage::make_room(uint64_t offset, uint64_t length) {
  if (!failure_.ok()) return failure_;
  if (offset + length <= bytes_.size()) return absl::OkStatus();
  if (size_ == Size::kFixed) return absl::OutOfRangeError("beyond the end");
  bytes_.resize(offset + length, '\0');
  return absl::OkStatus();
}

void FakeImage::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua,
                      volume::Done done) {
  if (fua) ++syncs_;
  // Taken only when the write ends: until then they have to be there.
  later_.run([this, offset, bytes, done = std::move(done)]() mutable {
    absl::Status status;
    {
      const absl::MutexLock lock(&mutex_);
      status = make_room(offset, bytes.size());
      if (status.ok()) std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
    }
    done(std::move(status));
  });
}

void FakeImage::append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) {
  later_.run([this, bytes, placed = std::move(placed), done = std::move(done)]() mutable {
    absl::Status status;
    {
      const absl::MutexLock lock(&mutex_);
      const uint64_t end = bytes_.size();
      std::move(placed)(end);
      status = make_room(end, bytes.size());
      if (status.ok()) std::memcpy(bytes_.data() + end, bytes.data(), bytes.size());
    }
    done(std::move(status));
  });
}

void FakeImage::write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags /*flags*/,
                             volume::Done done) {
  later_.run([this, offset, length, done = std::move(done)]() mutable {
    absl::Status status;
    {
      const absl::MutexLock lock(&mutex_);
      status = make_room(offset, length);
      if (status.ok()) std::memset(bytes_.data() + offset, 0, length);
    }
    done(std::move(status));
  });
}

void FakeImage::trim(uint64_t offset, uint64_t length, bool /*fua*/, volume::Done done) {
  write_zeroes(offset, length, {}, std::move(done));
}

void FakeImage::flush(volume::Done done) {
  ++syncs_;
  later_.run([done = std::move(done)]() mutable { done(absl::OkStatus()); });
}

bool FakeImage::is_hole(uint64_t page) const {
  const uint64_t begin = page * page::kPageSize;
  const uint64_t length = std::min<uint64_t>(page::kPageSize, bytes_.size() - begin);
  return std::all_of(bytes_.begin() + static_cast<ptrdiff_t>(begin),
                     bytes_.begin() + static_cast<ptrdiff_t>(begin + length),
                     [](char byte) { return byte == '\0'; });
}

void FakeImage::map(uint64_t offset, uint64_t length, size_t max_runs, volume::MapDone done) {
  std::vector<volume::Run> runs;
  {
    const absl::ReaderMutexLock lock(&mutex_);
    const uint64_t end = offset + length;
    if (end > bytes_.size()) return done(absl::OutOfRangeError("beyond the end"));
    for (uint64_t at = offset; at < end;) {
      const uint64_t next = std::min((at / page::kPageSize + 1) * page::kPageSize, end);
      const auto kind =
          is_hole(at / page::kPageSize) ? volume::Run::Kind::kZero : volume::Run::Kind::kData;
      if (runs.empty() || runs.back().kind != kind) {
        if (runs.size() == max_runs) break;
        runs.push_back({0, kind});
      }
      runs.back().length_bytes += next - at;
      at = next;
    }
  }
  later_.run([runs = std::move(runs), done = std::move(done)]() mutable { done(std::move(runs)); });
}

}  // namespace blobcache::fusefs
