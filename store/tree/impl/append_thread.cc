#include "store/tree/impl/append_thread.h"

#include <algorithm>
#include <system_error>

#include "absl/cleanup/cleanup.h"

namespace blobcache::tree {

AppendThread::AppendThread(AppendThreads& threads) : threads_(threads) {
  thread_ = std::thread([this] { run(); });
}

AppendThread::~AppendThread() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
  threads_.running_.fetch_sub(1, std::memory_order_relaxed);
}

void AppendThread::run() {
  const auto asked = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return job_ != nullptr || ending_;
  };
  while (true) {
    const absl::FunctionRef<void()>* job = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&asked));
      if (ending_) return;
      job = job_;
    }
    (*job)();
    absl::MutexLock lock(&mutex_);
    job_ = nullptr;
  }
}

void AppendThread::wait() {
  absl::MutexLock lock(&mutex_);
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return job_ == nullptr; };
  mutex_.Await(absl::Condition(&done));
}

void AppendThread::both(absl::FunctionRef<void()> theirs, absl::FunctionRef<void()> ours) {
  {
    absl::MutexLock lock(&mutex_);
    job_ = &theirs;
  }
  // Also when `ours` throws: the other thread still reads what the caller is about to drop.
  const absl::Cleanup join = [this] { wait(); };
  ours();
}

unsigned AppendThreads::most_for_this_machine() {
  return std::max(1U, std::thread::hardware_concurrency() / 2);
}

std::unique_ptr<AppendThread> AppendThreads::try_start() {
  if (running_.fetch_add(1, std::memory_order_relaxed) < most_) {
    try {
      return std::unique_ptr<AppendThread>(
          new AppendThread(*this));  // NOLINT: the constructor is private
    } catch (const std::system_error&) {
      // The put can do without.
    }
  }
  running_.fetch_sub(1, std::memory_order_relaxed);
  return nullptr;
}

}  // namespace blobcache::tree
