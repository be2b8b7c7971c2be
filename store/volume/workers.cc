#include "store/volume/workers.h"

#include <utility>

#include "base/io_flusher.h"

namespace blobcache::volume {

Workers::Workers(size_t threads) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Workers::~Workers() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(absl::AnyInvocable<void()> job) {
  const absl::MutexLock lock(&mutex_);
  jobs_.push_back(std::move(job));
}

void Workers::work() {
  // A volume may be a block device of this machine.
  base::become_io_flusher();
  const auto has_news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ || !jobs_.empty();
  };
  for (;;) {
    absl::AnyInvocable<void()> job;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_news));
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace blobcache::volume
