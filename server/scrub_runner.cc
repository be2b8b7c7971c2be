#include "server/scrub_runner.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "base/size.h"
#include "base/status.h"
#include "store/page/rate_limiter.h"

namespace blobcache::server {
namespace {

constexpr absl::Duration kProgressEvery = absl::Milliseconds(200);
/// How long a scrub may be deaf to its end.
constexpr absl::Duration kLongestNap = absl::Milliseconds(20);

/// Of the calling thread alone. Not to be had is no error: it is a courtesy.
void lower_priority() {
  constexpr int kNice = 10;
  // The kernel's header for ioprio_set(2) is not C++.
  constexpr int kWhoProcess = 1;
  constexpr int kThisThread = 0;
  constexpr int kBestEffortLowest = (2 << 13) | 7;
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  (void)::syscall(SYS_ioprio_set, kWhoProcess, kThisThread, kBestEffortLowest);
}

}  // namespace

/// Between the tree and the listener: keeps the rate, counts, and tells of progress now and then.
class ScrubRunner::Watcher final : public tree::ScrubWatcher {
 public:
  Watcher(ScrubRunner& runner, ScrubListener& listener, uint64_t bytes_per_second,
          ScrubSummary& summary)
      : runner_(runner), listener_(listener), limiter_(bytes_per_second), summary_(summary) {}

  bool may_read(uint64_t bytes) override {
    absl::Time now = absl::Now();
    const absl::Time start = now + limiter_.take(now, bytes);
    while (goes_on()) {
      if (now >= start) {
        read_bytes_ += bytes;
        tell_progress(now);
        return true;
      }
      absl::SleepFor(std::min(start - now, kLongestNap));
      now = absl::Now();
    }
    return false;
  }

  void on_begin(uint64_t objects, uint64_t disk_bytes) override {
    listener_.on_begin(objects, disk_bytes);
  }

  void on_checked(const page::ScrubResult& result) override {
    ++summary_.objects;
    summary_.pages += result.checked_pages;
    summary_.bytes += result.checked_bytes;
    summary_.damaged_objects += result.clean() ? 0 : 1;
    summary_.damaged_pages += result.damaged_pages;
    summary_.repaired_maps += result.map_repaired ? 1 : 0;
    runner_.count(result);
  }

  void on_damage(const tree::DamagedObject& object) override { listener_.on_damage(object); }

 private:
  bool goes_on() { return !runner_.stopping() && listener_.wants_more(); }

  void tell_progress(absl::Time now) {
    if (now < next_progress_) return;
    next_progress_ = now + kProgressEvery;
    listener_.on_progress(summary_.objects, read_bytes_);
  }

  ScrubRunner& runner_;
  ScrubListener& listener_;
  page::RateLimiter limiter_;
  ScrubSummary& summary_;
  uint64_t read_bytes_ = 0;
  absl::Time next_progress_ = absl::InfinitePast();
};

absl::StatusOr<ScrubSummary> ScrubRunner::run(std::string_view path, uint64_t bytes_per_second,
                                              ScrubListener& listener) {
  BLOBCACHE_RETURN_IF_ERROR(begin());
  ScrubSummary summary;
  summary.path = path;
  summary.started = absl::Now();
  absl::Status status;
  std::thread thread([&] {
    lower_priority();
    Watcher watcher(*this, listener, bytes_per_second, summary);
    status = names_.scrub(path, watcher);
  });
  thread.join();
  summary.ended = absl::Now();
  if (absl::IsCancelled(status) && stopping()) {
    status = absl::UnavailableError("the daemon is stopping");
  }
  finish(status, summary);
  if (!status.ok()) return status;
  return summary;
}

absl::Status ScrubRunner::begin() {
  const absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("the daemon is stopping");
  if (stats_.running) return absl::AlreadyExistsError("a scrub is under way already");
  stats_.running = true;
  return absl::OkStatus();
}

void ScrubRunner::finish(const absl::Status& status, const ScrubSummary& summary) {
  if (status.ok()) {
    spdlog::info("scrub: {} objects, {} read, {} damaged objects, {} damaged pages",
                 summary.objects, base::format_size(summary.bytes), summary.damaged_objects,
                 summary.damaged_pages);
  }
  const absl::MutexLock lock(&mutex_);
  stats_.running = false;
  if (status.ok()) stats_.last = summary;
}

void ScrubRunner::stop() {
  const absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

bool ScrubRunner::stopping() const {
  const absl::MutexLock lock(&mutex_);
  return stopping_;
}

void ScrubRunner::count(const page::ScrubResult& result) {
  const absl::MutexLock lock(&mutex_);
  stats_.checked_pages += result.checked_pages;
  stats_.damaged_pages += result.damaged_pages;
}

ScrubStats ScrubRunner::stats() const {
  const absl::MutexLock lock(&mutex_);
  return stats_;
}

}  // namespace blobcache::server
