#include "store/tree/impl/call_threads.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace blobcache::tree {

CallThreads::~CallThreads() {
  std::vector<std::thread> threads;
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

bool CallThreads::run(absl::AnyInvocable<void()> call) {
  const absl::MutexLock lock(&mutex_);
  if (waiting_.size() >= kMostWaiting) return false;
  waiting_.push_back(std::move(call));
  if (waiting_.size() > idle_ && threads_.size() < kThreads) {
    threads_.emplace_back([this] { work(); });
  }
  return true;
}

void CallThreads::work() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "origin calls");
  const auto asked = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ || !waiting_.empty();
  };
  for (;;) {
    absl::AnyInvocable<void()> call;
    {
      const absl::MutexLock lock(&mutex_);
      ++idle_;
      mutex_.Await(absl::Condition(&asked));
      --idle_;
      if (waiting_.empty()) return;
      call = std::move(waiting_.front());
      waiting_.pop_front();
    }
    call();
  }
}

}  // namespace blobcache::tree
