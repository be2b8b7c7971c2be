#include "net/impl/dir_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/url_escape.h"
#include "store/tree/path.h"

namespace blobcache::net {
namespace {

absl::Status stopped_call() { return absl::CancelledError("the daemon ends"); }

}  // namespace

/// A call that somebody waits for, with the tree's mutex.
template <typename T>
class DirTree::Call final : public DirThreads::Job {
 public:
  using Work =
      absl::AnyInvocable<absl::StatusOr<T>(const DirFiles&, const std::atomic<bool>& wanted)>;
  Call(std::shared_ptr<Shared> shared, Work work)
      : shared_(std::move(shared)), work_(std::move(work)) {}

  void work() override {
    absl::StatusOr<T> result = work_(shared_->files, wanted_);
    const absl::MutexLock lock(&shared_->mutex);
    result_ = std::move(result);
  }

  [[nodiscard]] absl::StatusOr<T> wait(absl::Duration timeout) {
    const absl::MutexLock lock(&shared_->mutex);
    const auto is_over = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return result_.has_value() || shared_->stopped;
    };
    (void)shared_->mutex.AwaitWithTimeout(absl::Condition(&is_over), timeout);
    if (result_) return *std::move(result_);
    wanted_ = false;
    if (shared_->stopped) return stopped_call();
    return absl::DeadlineExceededError(
        fmt::format("no answer within {}", absl::FormatDuration(timeout)));
  }

 private:
  const std::shared_ptr<Shared> shared_;
  Work work_;
  std::optional<absl::StatusOr<T>> result_ ABSL_GUARDED_BY(shared_->mutex);
  std::atomic<bool> wanted_ = true;
};

DirTree::DirTree(const DirOriginOptions& options, DirSystem system)
    : options_(options),
      vitals_(std::make_shared<OriginVitals>(
          fmt::format("origin {} ({})", options.name, tree::printable(options.path)))),
      shared_(std::make_shared<Shared>(options, std::move(system))),
      reads_(std::make_shared<DirReads>(options.reads, options.request_timeout, vitals_)),
      calls_("origin files", kCalls) {}

DirTree::~DirTree() {
  reads_->close();
  constexpr absl::Duration kLastCalls = absl::Seconds(1);
  calls_.end(kLastCalls);
}

void DirTree::stop() {
  {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->stopped = true;
  }
  reads_->end_by(absl::Now() + kGrace);
}

/// Health is of the directory: that it has not what was asked for says that it is there.
void DirTree::tell(const absl::Status& status) {
  if (absl::IsCancelled(status)) return;
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    vitals_->failed(status);
  } else {
    vitals_->reached();
  }
}

template <typename T>
absl::StatusOr<T> DirTree::ask(
    absl::AnyInvocable<absl::StatusOr<T>(const DirFiles&, const std::atomic<bool>& wanted)> work) {
  {
    const absl::MutexLock lock(&shared_->mutex);
    if (shared_->stopped) return stopped_call();
  }
  const auto call = std::make_shared<Call<T>>(shared_, std::move(work));
  if (!calls_.start(call)) {
    return absl::UnavailableError("the origin's file system does not answer");
  }
  absl::StatusOr<T> result = call->wait(options_.request_timeout);
  // Of one that is over this does nothing.
  calls_.give_up(call);
  tell(result.status());
  return result;
}

std::string DirTree::url_of(std::string_view path) {
  std::string whole = options_.path;
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  if (!path.empty() && whole != "/") whole += '/';
  return "file://" + base::escape_url(whole + std::string(path), true);
}

absl::StatusOr<tree::OriginEntry> DirTree::look_up(std::string_view path) {
  return ask<tree::OriginEntry>(
      [path = std::string(path)](const DirFiles& files, const std::atomic<bool>& /*wanted*/) {
        return files.look_up(path);
      });
}

absl::StatusOr<std::vector<tree::OriginEntry>> DirTree::list(std::string_view path) {
  absl::StatusOr<std::vector<tree::OriginEntry>> entries = ask<std::vector<tree::OriginEntry>>(
      [path = std::string(path)](const DirFiles& files, const std::atomic<bool>& wanted) {
        return files.list(path, wanted);
      });
  if (!entries.ok()) return entries;
  std::sort(entries->begin(), entries->end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

absl::StatusOr<tree::OriginFile> DirTree::open(std::string_view path) {
  const std::string name(path);
  absl::StatusOr<DirOpened> opened =
      ask<DirOpened>([name](const DirFiles& files, const std::atomic<bool>& /*wanted*/) {
        return files.open(name);
      });
  if (!opened.ok()) return opened.status();
  const bool lasting = opened->lasting;
  const page::ObjectKey key =
      lasting ? shared_->files.key(name, opened->stamp) : page::ObjectKey::random();
  // Closed by one of the threads, if it is not needed after all.
  auto session = std::make_shared<DirSession>(name, *std::move(opened), key,
                                              shared_->files.system(), reads_, vitals_);
  if (lasting) {
    const absl::MutexLock lock(&mutex_);
    if (sessions_.size() >= sweep_at_) {
      std::erase_if(sessions_, [](const auto& each) { return each.second.expired(); });
      sweep_at_ = std::max(kSweep, 2 * sessions_.size());
    }
    std::weak_ptr<DirSession>& known = sessions_[name];
    const std::shared_ptr<DirSession> open = known.lock();
    if (open != nullptr && !open->has_changed() && open->stamp() == session->stamp()) {
      session = open;
    } else {
      known = session;
    }
  }
  tree::OriginFile file;
  file.version = {session->key(), session->stamp().size_bytes, session};
  file.lasting = lasting;
  file.modified = absl::FromUnixNanos(session->stamp().modified_ns);
  return file;
}

}  // namespace blobcache::net
