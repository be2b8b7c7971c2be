#include "fusefs/impl/invalidator.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "fusefs/impl/threads.h"

namespace blobcache::fusefs {

Invalidator::Invalidator(KernelCache& cache, size_t capacity)
    : cache_(cache), capacity_(capacity) {}

void Invalidator::start() {
  thread_ = std::thread([this] {
    prepare_thread("fuse-forget");
    run();
  });
}

void Invalidator::stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
  std::deque<First> left;
  {
    absl::MutexLock lock(&mutex_);
    left.swap(first_);
  }
  for (First& each : left) std::move(each.then)();
}

void Invalidator::forget_first(const OwnChanges::Change& bytes,
                               absl::AnyInvocable<void() &&> then) {
  {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) {
      first_.push_back(First{bytes, std::move(then)});
      return;
    }
  }
  std::move(then)();
}

bool Invalidator::has_room() {
  if (stopping_ || all_) return false;
  if (changes_.size() < capacity_) return true;
  be_full();
  return false;
}

void Invalidator::be_full() {
  changes_.clear();
  contents_.clear();
  all_ = true;
}

bool Invalidator::pause(absl::Duration patience, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto all_told = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || (!tells_ && !all_ && changes_.empty());
  };
  mutex_.AwaitWithTimeout(absl::Condition(&all_told), patience);
  paused_ = true;
  const auto is_quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !tells_; };
  return mutex_.AwaitWithDeadline(absl::Condition(&is_quiet), deadline);
}

void Invalidator::resume() {
  absl::MutexLock lock(&mutex_);
  paused_ = false;
}

bool Invalidator::has_news() {
  absl::MutexLock lock(&mutex_);
  return all_ || !changes_.empty();
}

void Invalidator::forget_all() {
  absl::MutexLock lock(&mutex_);
  be_full();
}

void Invalidator::on_name_changed(tree::NodeId parent, std::string_view name) {
  if (own_.by_this_thread()) return;
  absl::MutexLock lock(&mutex_);
  if (has_room()) changes_.push_back(Change{parent, std::string(name), false});
}

void Invalidator::on_content_changed(tree::NodeId file, uint64_t offset, uint64_t length) {
  if (own_.by_this_thread() || own_.take({file, offset, length})) return;
  const uint64_t most = std::numeric_limits<uint64_t>::max() - offset;
  const Bytes bytes{offset, offset + std::min(length, most)};
  absl::MutexLock lock(&mutex_);
  const auto found = contents_.find(file);
  if (found != contents_.end()) {  // it is queued
    found->second.begin = std::min(found->second.begin, bytes.begin);
    found->second.end = std::max(found->second.end, bytes.end);
    return;
  }
  if (!has_room()) return;
  changes_.push_back(Change{file, std::string(), true});
  contents_.emplace(file, bytes);
}

Invalidator::Next Invalidator::wait_for_next(Change& change, Bytes& bytes, First& first) {
  absl::MutexLock lock(&mutex_);
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // What is first somebody waits for, who may be waited for by who paused us.
    return stopping_ || !first_.empty() || (!paused_ && (all_ || !changes_.empty()));
  };
  tells_ = false;
  mutex_.Await(absl::Condition(&work));
  if (stopping_) return Next::kStop;
  tells_ = true;
  if (!first_.empty()) {
    first = std::move(first_.front());
    first_.pop_front();
    return Next::kFirst;
  }
  if (std::exchange(all_, false)) return Next::kAll;
  change = std::move(changes_.front());
  changes_.pop_front();
  if (!change.is_content) return Next::kChange;
  const auto found = contents_.find(change.node);
  bytes = found->second;
  contents_.erase(found);
  return Next::kChange;
}

void Invalidator::run() {
  while (true) {
    Change change;
    Bytes bytes;
    First first;
    switch (wait_for_next(change, bytes, first)) {
      case Next::kStop:
        return;
      case Next::kFirst:
        cache_.forget_content(first.bytes.node, first.bytes.offset, first.bytes.length);
        std::move(first.then)();
        break;
      case Next::kAll:
        cache_.forget_all();
        break;
      case Next::kChange:
        if (change.is_content) {
          cache_.forget_content(change.node, bytes.begin, bytes.end - bytes.begin);
        } else {
          cache_.forget_name(change.node, change.name);
        }
        break;
    }
  }
}

}  // namespace blobcache::fusefs
