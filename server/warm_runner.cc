#include "server/warm_runner.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/notification.h"
#include "base/size.h"
#include "base/status.h"
#include "server/object_stream.h"
#include "store/tree/path.h"

namespace blobcache::server {
namespace {

/// What waits for the disk has an eighth of the memory, up to 64 MiB; this leaves most of it to
/// others.
uint64_t stride_within(uint64_t memory_bytes) {
  constexpr uint64_t kMib = uint64_t{1} << 20;
  constexpr uint64_t kShare = 32;
  constexpr uint64_t kMost = 16;
  return std::clamp<uint64_t>(memory_bytes / kShare / kMib, 1, kMost) * kMib;
}

/// What has no place on disk after so many tries gets none.
constexpr int kTries = 4;

absl::StatusOr<std::vector<page::MapRun>> map_of(page::Object& object, uint64_t offset,
                                                 uint64_t length) {
  constexpr size_t kMostRuns = 1024;
  absl::StatusOr<std::vector<page::MapRun>> runs;
  absl::Notification told;
  object.map(offset, length, kMostRuns, [&](absl::StatusOr<std::vector<page::MapRun>> answer) {
    runs = std::move(answer);
    told.Notify();
  });
  told.WaitForNotification();
  return runs;
}

absl::Status is_stopping() { return absl::UnavailableError("the daemon is stopping"); }

absl::Status cannot(std::string_view path, std::string_view why) {
  return absl::FailedPreconditionError(fmt::format("{}: {}", tree::printable(path), why));
}

}  // namespace

WarmRunner::WarmRunner(tree::Namespace& names, page::PageStore& store)
    : names_(names), store_(store), stride_(stride_within(store.stats().memory_budget_bytes)) {}

WarmRunner::~WarmRunner() {
  stop();
  std::thread worker;
  {
    const absl::MutexLock lock(&mutex_);
    worker.swap(worker_);
  }
  if (worker.joinable()) worker.join();
}

void WarmRunner::stop() {
  std::deque<Range> dropped;  // goes when the lock is gone
  const absl::MutexLock lock(&mutex_);
  stopped_ = true;
  dropped.swap(waiting_);
}

bool WarmRunner::is_stopped() {
  const absl::MutexLock lock(&mutex_);
  return stopped_;
}

absl::StatusOr<WarmRunner::Range> WarmRunner::open(const WarmWish& wish) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names_.resolve(wish.path));
  switch (node.type) {
    case tree::NodeType::kDirectory:
      return cannot(wish.path, "is a directory; name its files");
    case tree::NodeType::kSymlink:
      return cannot(wish.path, "is a symbolic link");
    case tree::NodeType::kImage:
      return cannot(wish.path,
                    "is an image that may change: what is cached of it goes with who "
                    "has it open");
    case tree::NodeType::kFile:
      break;
  }
  if (!node.settled) return cannot(wish.path, "is being written to");
  if (!node.steady) {
    return cannot(wish.path,
                  "its origin does not tell this version from others, so nothing of it would stay");
  }
  Range range{wish.path, nullptr, wish.offset, 0};
  BLOBCACHE_ASSIGN_OR_RETURN(range.object, names_.open(node.id));
  const uint64_t size = range.object->size_bytes();
  if (wish.offset > size) {
    return absl::OutOfRangeError(fmt::format("{}: offset {} is past the end of {} bytes",
                                             tree::printable(wish.path), wish.offset, size));
  }
  const uint64_t rest = size - wish.offset;
  range.end = wish.offset + (wish.length == 0 ? rest : std::min(wish.length, rest));
  return range;
}

absl::StatusOr<uint64_t> WarmRunner::fetch_missing(const Range& range, WarmProgress progress) {
  uint64_t fetched = 0;
  const uint64_t total = range.end - range.offset;
  const auto goes_on = [&](uint64_t at) {
    return !is_stopped() && progress(at - range.offset, total);
  };
  uint64_t at = range.offset;
  while (at < range.end) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<page::MapRun> runs,
                               map_of(*range.object, at, range.end - at));
    for (const page::MapRun& run : runs) {
      const uint64_t end = std::min(range.end, at + run.length);
      while (at < end) {
        if (!goes_on(at)) return absl::CancelledError("ended by who asked for it");
        if (run.place != page::Place::kRemote) {
          at = end;
          continue;
        }
        const StreamOptions stride{at, std::min(stride_, end - at),
                                   stride_ / page::Object::kMaxRead};
        const auto take = [](absl::Span<const std::byte>) { return absl::OkStatus(); };
        BLOBCACHE_RETURN_IF_ERROR(
            stream_object(*range.object, stride, take, [&] { return goes_on(at); }));
        // What comes while the disk's line is full stays in memory alone.
        store_.wait_cached();
        at += stride.length;
        fetched += stride.length;
      }
    }
  }
  return fetched;
}

/// Memory hides what is on disk, so it lets go of the object first.
absl::StatusOr<bool> WarmRunner::is_on_disk(const Range& range) {
  BLOBCACHE_ASSIGN_OR_RETURN(const page::Residency now, range.object->residency());
  if (now.disk_pages >= now.pages) return true;
  static_cast<void>(store_.evict_memory(*range.object));
  for (uint64_t at = range.offset; at < range.end;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<page::MapRun> runs,
                               map_of(*range.object, at, range.end - at));
    for (const page::MapRun& run : runs) {
      if (run.place == page::Place::kRemote) return false;
      at += run.length;
    }
  }
  return true;
}

absl::StatusOr<Warmed> WarmRunner::warm(const Range& range, WarmProgress progress) {
  Warmed warmed{range.end - range.offset, 0};
  for (int tries = 0; tries < kTries; ++tries) {
    const absl::StatusOr<uint64_t> fetched = fetch_missing(range, progress);
    if (is_stopped()) return is_stopping();
    if (!fetched.ok()) return fetched.status();
    warmed.fetched = std::min(warmed.length, warmed.fetched + *fetched);
    BLOBCACHE_ASSIGN_OR_RETURN(const bool is_there, is_on_disk(range));
    if (is_there) return warmed;
  }
  return absl::ResourceExhaustedError(
      fmt::format("{}: the disk did not keep all of it", tree::printable(range.path)));
}

absl::StatusOr<Warmed> WarmRunner::run(const WarmWish& wish, WarmProgress progress) {
  {
    const absl::MutexLock lock(&mutex_);
    if (stopped_) return is_stopping();
    if (callers_ >= kMostCallers) {
      return absl::UnavailableError(fmt::format("{} are warmed already", callers_));
    }
    ++callers_;
  }
  const absl::Cleanup gone = [this] {
    const absl::MutexLock lock(&mutex_);
    --callers_;
  };
  BLOBCACHE_ASSIGN_OR_RETURN(const Range range, open(wish));
  return warm(range, progress);
}

absl::Status WarmRunner::begin(const WarmWish& wish) {
  BLOBCACHE_ASSIGN_OR_RETURN(Range range, open(wish));
  const absl::MutexLock lock(&mutex_);
  if (stopped_) return is_stopping();
  if (waiting_.size() >= kMostWaiting) {
    return absl::ResourceExhaustedError(fmt::format("{} wait to be warmed already", kMostWaiting));
  }
  waiting_.push_back(std::move(range));
  if (!worker_.joinable()) worker_ = std::thread([this] { work(); });
  return absl::OkStatus();
}

void WarmRunner::work() {
  pthread_setname_np(pthread_self(), "warm");
  const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopped_ || !waiting_.empty();
  };
  for (;;) {
    Range range;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (stopped_) return;
      range = std::move(waiting_.front());
      waiting_.pop_front();
    }
    const auto go_on = [](uint64_t /*done*/, uint64_t /*total*/) { return true; };
    const absl::StatusOr<Warmed> warmed = warm(range, go_on);
    if (is_stopped()) return;
    if (warmed.ok()) {
      spdlog::info("warmed {}: {}, {} of it fetched", tree::printable(range.path),
                   base::format_size(warmed->length), base::format_size(warmed->fetched));
    } else {
      spdlog::warn("cannot warm {}: {}", tree::printable(range.path),
                   base::message(warmed.status()));
    }
  }
}

}  // namespace blobcache::server
