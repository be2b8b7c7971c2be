#include "net/impl/dir_reads.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::net {

DirRead::DirRead(std::shared_ptr<DirReadable> file, uint64_t offset, absl::Span<std::byte> into,
                 page::Source::FetchDone done)
    : file_(std::move(file)),
      offset_(offset),
      left_(into),
      done_(std::move(done)),
      bytes_(into.size()) {}

bool DirRead::take(absl::Span<const std::byte> piece) {
  const absl::MutexLock lock(&mutex_);
  if (over_) return false;
  std::memcpy(left_.data(), piece.data(), piece.size());
  left_.remove_prefix(piece.size());
  return true;
}

void DirRead::work() {
  {
    const absl::MutexLock lock(&mutex_);
    if (over_) return;
  }
  finish(file_->read(offset_, bytes_, [this](auto piece) { return take(piece); }));
}

bool DirRead::finish(const absl::Status& status) {
  page::Source::FetchDone done;
  {
    const absl::MutexLock lock(&mutex_);
    if (std::exchange(over_, true)) return false;
    done = std::move(done_);
  }
  if (on_over) on_over(status);
  done(status);
  return true;
}

DirReads::DirReads(size_t at_a_time, absl::Duration timeout, std::shared_ptr<OriginVitals> vitals)
    : timeout_(timeout),
      vitals_(std::move(vitals)),
      threads_("origin reads", at_a_time),
      clock_([this] { keep_time(); }) {}

void DirReads::start(const std::shared_ptr<DirRead>& read) {
  absl::Status refused;
  {
    const absl::MutexLock lock(&mutex_);
    if (closed_ || absl::Now() >= end_) {
      refused = absl::UnavailableError("the origin was closed");
    } else if (reads_.size() >= kMostReads) {
      refused = absl::UnavailableError("too many reads wait for the origin");
    } else {
      const uint64_t id = next_id_++;
      read->on_over = [self = weak_from_this(), id](const absl::Status& status) {
        if (const std::shared_ptr<DirReads> reads = self.lock()) reads->over(id, status);
      };
      reads_.emplace(id, Due{absl::Now() + timeout_, read});
    }
  }
  if (refused.ok() && !threads_.start(read)) {
    refused = absl::UnavailableError("the origin's file system does not answer");
  }
  if (!refused.ok()) read->finish(refused);
}

void DirReads::give_up(const std::shared_ptr<DirRead>& read, const absl::Status& status) {
  if (read->finish(status)) threads_.give_up(read);
}

void DirReads::over(uint64_t id, const absl::Status& status) {
  std::shared_ptr<DirRead> last;  // goes when the lock is gone
  {
    const absl::MutexLock lock(&mutex_);
    const auto at = reads_.find(id);
    if (at == reads_.end()) return;
    last = std::move(at->second.read);
    reads_.erase(at);
    // The end, and not the origin, made it fail.
    if (closed_ || absl::Now() >= end_) return;
  }
  if (status.ok()) {
    ++vitals_->requests;
    vitals_->reached();
  } else if (absl::IsDeadlineExceeded(status)) {
    vitals_->failed(status);
  }
}

absl::Time DirReads::next() const {
  if (closed_) return absl::InfinitePast();
  return reads_.empty() ? end_ : std::min(end_, reads_.begin()->second.time);
}

std::vector<DirReads::Due> DirReads::take_due() {
  std::vector<Due> due;
  const absl::MutexLock lock(&mutex_);
  const absl::Time now = absl::Now();
  for (const auto& [id, each] : reads_) {
    if (!closed_ && now < end_ && now < each.time) break;
    due.push_back(each);
  }
  return due;
}

void DirReads::keep_time() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "origin clock");
  for (;;) {
    bool closed = false;
    {
      const absl::MutexLock lock(&mutex_);
      const auto has_work = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return closed_ || !reads_.empty();
      };
      mutex_.Await(absl::Condition(&has_work));
      // Reads that are begun later are due later: one look a timeout is enough for all of them.
      const absl::Time known = next();
      const auto is_sooner = [this, &known]()
                                 ABSL_NO_THREAD_SAFETY_ANALYSIS { return next() < known; };
      (void)mutex_.AwaitWithDeadline(absl::Condition(&is_sooner), known);
      closed = closed_;
    }
    for (const Due& each : take_due()) {
      const bool late = absl::Now() >= each.time && !closed;
      give_up(each.read, late ? absl::DeadlineExceededError(fmt::format(
                                    "no answer within {}", absl::FormatDuration(timeout_)))
                              : absl::UnavailableError("the origin was closed"));
    }
    if (closed) return;
  }
}

void DirReads::end_by(absl::Time time) {
  const absl::MutexLock lock(&mutex_);
  end_ = std::min(end_, time);
}

void DirReads::close() {
  {
    const absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  if (clock_.joinable()) clock_.join();
  constexpr absl::Duration kGrace = absl::Seconds(1);
  threads_.end(kGrace);
}

}  // namespace blobcache::net
