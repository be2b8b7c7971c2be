#include "net/impl/dir_threads.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <utility>

namespace blobcache::net {

DirThreads::DirThreads(std::string name, size_t threads)
    : most_threads_(threads), shared_(std::make_shared<Shared>(std::move(name))) {}

bool DirThreads::start(const std::shared_ptr<Job>& job) {
  const absl::MutexLock lock(&shared_->mutex);
  if (shared_->ended || shared_->waiting.size() >= kMostWaiting ||
      shared_->stuck >= most_threads_) {
    return false;
  }
  add(job);
  return true;
}

bool DirThreads::start_always(const std::shared_ptr<Job>& job) {
  const absl::MutexLock lock(&shared_->mutex);
  if (shared_->ended) return false;
  add(job);
  return true;
}

void DirThreads::add(const std::shared_ptr<Job>& job) {
  job->state_ = Job::State::kWaiting;
  shared_->waiting.push_back(job);
  if (shared_->waiting.size() <= shared_->idle || shared_->alive >= most_threads_) return;
  ++shared_->alive;
  std::thread([shared = shared_] { run(shared); }).detach();
}

void DirThreads::give_up(const std::shared_ptr<Job>& job) {
  std::shared_ptr<Job> last;  // goes when the lock is gone
  const absl::MutexLock lock(&shared_->mutex);
  if (job->given_up_) return;
  job->given_up_ = true;
  if (job->state_ == Job::State::kRunning) {
    ++shared_->stuck;
  } else if (job->state_ == Job::State::kWaiting) {
    const auto at = std::find(shared_->waiting.begin(), shared_->waiting.end(), job);
    if (at == shared_->waiting.end()) return;
    last = std::move(*at);
    shared_->waiting.erase(at);
    job->state_ = Job::State::kOver;
  }
}

void DirThreads::end(absl::Duration grace) {
  std::deque<std::shared_ptr<Job>> dropped;  // goes when the lock is gone
  const absl::MutexLock lock(&shared_->mutex);
  shared_->ended = true;
  dropped.swap(shared_->waiting);
  if (grace <= absl::ZeroDuration()) return;
  Shared& shared = *shared_;
  const auto are_gone = [&shared]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return shared.alive == 0; };
  (void)shared.mutex.AwaitWithTimeout(absl::Condition(&are_gone), grace);
}

void DirThreads::run(const std::shared_ptr<Shared>& shared) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), shared->name.c_str());
  Shared& state = *shared;
  const auto is_wanted = [&state]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return state.ended || !state.waiting.empty();
  };
  for (;;) {
    std::shared_ptr<Job> job;
    {
      const absl::MutexLock lock(&state.mutex);
      ++state.idle;
      state.mutex.Await(absl::Condition(&is_wanted));
      --state.idle;
      if (state.waiting.empty()) {
        --state.alive;
        return;
      }
      job = std::move(state.waiting.front());
      state.waiting.pop_front();
      job->state_ = Job::State::kRunning;
    }
    job->work();
    const absl::MutexLock lock(&state.mutex);
    job->state_ = Job::State::kOver;
    if (job->given_up_) --state.stuck;
  }
}

}  // namespace blobcache::net
