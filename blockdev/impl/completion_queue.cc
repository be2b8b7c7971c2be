#include "blockdev/impl/completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status.h"

namespace blobcache::blockdev {

absl::StatusOr<std::shared_ptr<CompletionQueue>> CompletionQueue::create() {
  base::UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return base::errno_error(errno, "eventfd");
  // make_shared cannot reach the private constructor.
  return std::shared_ptr<CompletionQueue>(
      std::unique_ptr<CompletionQueue>(new CompletionQueue(std::move(fd))));
}

page::Object::ReadDone CompletionQueue::expect(uint32_t id) {
  {
    absl::MutexLock lock(&mutex_);
    ++expected_;
  }
  return [self = shared_from_this(), id](absl::StatusOr<page::PinnedRange> result) {
    self->push({id, std::move(result)});
  };
}

void CompletionQueue::push(Completion completion) {
  bool wake_up = false;
  {
    absl::MutexLock lock(&mutex_);
    ready_.push_back(std::move(completion));
    --expected_;
    any_.store(true, std::memory_order_release);
    wake_up = std::exchange(armed_, false);
  }
  if (wake_up) wake();
}

void CompletionQueue::take(std::vector<Completion>& into) {
  into.clear();
  if (!any_.load(std::memory_order_acquire)) return;
  absl::MutexLock lock(&mutex_);
  into.swap(ready_);
  any_.store(false, std::memory_order_relaxed);
}

bool CompletionQueue::arm() {
  absl::MutexLock lock(&mutex_);
  armed_ = ready_.empty();
  return armed_;
}

void CompletionQueue::disarm(bool readable) {
  {
    absl::MutexLock lock(&mutex_);
    armed_ = false;
  }
  uint64_t count = 0;
  // An eventfd that another thread is about to write stays readable: one empty round more, no harm.
  if (readable && ::read(wake_fd_.get(), &count, sizeof(count)) < 0) return;
}

void CompletionQueue::wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  if (::write(wake_fd_.get(), &one, sizeof(one)) < 0) return;
}

void CompletionQueue::drain() {
  std::vector<Completion> last;
  absl::MutexLock lock(&mutex_);
  const auto all_came = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return expected_ == 0; };
  mutex_.Await(absl::Condition(&all_came));
  last.swap(ready_);
  any_.store(false, std::memory_order_relaxed);
}

}  // namespace blobcache::blockdev
