#include "store/tree/impl/settler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::tree {
namespace {

/// After an error (a full disk) the next try is worth no hurry.
constexpr absl::Duration kPause = absl::Seconds(10);

}  // namespace

void Settler::add(const std::shared_ptr<Inode>& inode) {
  const absl::Time until = absl::Now() + rest_;
  inode->rests_until_ns.store(absl::ToUnixNanos(until));
  const absl::MutexLock lock(&mutex_);
  if (inode->queued.exchange(true)) return;
  resting_.emplace(until, inode);
  if (stopping_ || threads_.size() >= kThreads) return;
  threads_.emplace_back([this] { work(); });
}

bool Settler::has_hope() {
  const absl::MutexLock lock(&mutex_);
  return !held_ && (!resting_.empty() || at_work_ > 0);
}

void Settler::hold(bool on) {
  const absl::MutexLock lock(&mutex_);
  held_ = on;
}

void Settler::hurry(bool on) {
  const absl::MutexLock lock(&mutex_);
  hurrying_ = on;
}

void Settler::stop() {
  std::vector<std::thread> threads;
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  const absl::MutexLock lock(&mutex_);
  resting_.clear();
  failed_.clear();
}

bool Settler::stopping() {
  const absl::MutexLock lock(&mutex_);
  return stopping_;
}

/// The first that is due, taken off; null: none is.
std::shared_ptr<Inode> Settler::take() {
  const absl::Time now = absl::Now();
  while (!resting_.empty() && (hurrying_ || resting_.begin()->first <= now)) {
    std::shared_ptr<Inode> inode = resting_.begin()->second.lock();
    resting_.erase(resting_.begin());
    if (inode == nullptr) continue;
    const absl::Time until = absl::FromUnixNanos(inode->rests_until_ns.load());
    if (hurrying_ || until <= now) return inode;
    resting_.emplace(until, inode);  // it was written to since
  }
  while (!failed_.empty() && failed_.begin()->first <= now) {
    std::shared_ptr<Inode> inode = failed_.begin()->second.lock();
    failed_.erase(failed_.begin());
    if (inode != nullptr) return inode;
  }
  return nullptr;
}

std::shared_ptr<Inode> Settler::wait_for_one() {
  const absl::MutexLock lock(&mutex_);
  for (;;) {
    const auto goes_on = [this]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !held_; };
    mutex_.Await(absl::Condition(&goes_on));
    if (stopping_) return nullptr;
    if (std::shared_ptr<Inode> inode = take()) {
      inode->queued.store(false);  // who writes to it from here on has it queued anew
      ++at_work_;
      return inode;
    }
    absl::Time next = absl::InfiniteFuture();
    if (!resting_.empty()) next = resting_.begin()->first;
    if (!failed_.empty()) next = std::min(next, failed_.begin()->first);
    const size_t seen = resting_.size();
    const auto news = [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || resting_.size() != seen || (hurrying_ && !resting_.empty());
    };
    mutex_.AwaitWithDeadline(absl::Condition(&news), next);
  }
}

void Settler::work() {
  while (const std::shared_ptr<Inode> inode = wait_for_one()) {
    const absl::Status status = work_.settle(inode);
    const bool failed = !status.ok() && !absl::IsCancelled(status);
    if (failed) {
      spdlog::warn("a file that was written to (node {}) cannot become a blob yet: {}", inode->id(),
                   base::message(status));
    }
    const absl::MutexLock lock(&mutex_);
    --at_work_;
    if (failed && !inode->queued.exchange(true)) failed_.emplace(absl::Now() + kPause, inode);
  }
}

}  // namespace blobcache::tree
