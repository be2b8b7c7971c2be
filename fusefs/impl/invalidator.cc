#include "fusefs/impl/invalidator.h"

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
}

void Invalidator::on_name_changed(tree::NodeId parent, std::string_view name) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ || all_) return;
  if (changes_.size() < capacity_) {
    changes_.push_back(Change{parent, std::string(name)});
    return;
  }
  changes_.clear();
  all_ = true;
}

void Invalidator::run() {
  while (true) {
    bool all = false;
    Change change;
    {
      absl::MutexLock lock(&mutex_);
      const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || all_ || !changes_.empty();
      };
      mutex_.Await(absl::Condition(&work));
      if (stopping_) return;
      all = std::exchange(all_, false);
      if (!all) {
        change = std::move(changes_.front());
        changes_.pop_front();
      }
    }
    if (all) {
      cache_.forget_all();
    } else {
      cache_.forget_name(change.parent, change.name);
    }
  }
}

}  // namespace blobcache::fusefs
