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

CompletionQueue::Ticket* CompletionQueue::hand_out(uint32_t id) {
  if (free_tickets_.empty()) {
    free_tickets_.push_back(static_cast<uint32_t>(tickets_.size()));
    tickets_.emplace_back();
  }
  const uint32_t number = free_tickets_.back();
  free_tickets_.pop_back();
  Ticket& ticket = tickets_[number];
  ticket.queue = shared_from_this();
  ticket.id = id;
  ticket.number = number;
  absl::MutexLock lock(&mutex_);
  ++expected_;
  return &ticket;
}

/// The ticket may be handed out again as soon as the completion is in line, so nothing touches it
/// after that.
void CompletionQueue::come_back(Ticket& ticket, Completion completion) {
  const std::shared_ptr<CompletionQueue> queue = std::move(ticket.queue);
  completion.id = ticket.id;
  completion.ticket = ticket.number;
  queue->push(std::move(completion));
}

Device::ReadDone CompletionQueue::expect_read(uint32_t id) {
  return [ticket = hand_out(id)](absl::StatusOr<DeviceBytes> result) {
    Completion completion;
    if (result.ok()) {
      completion.bytes = *std::move(result);
    } else {
      completion.status = std::move(result).status();
    }
    come_back(*ticket, std::move(completion));
  };
}

Device::MapDone CompletionQueue::expect_map(uint32_t id) {
  return [ticket = hand_out(id)](absl::StatusOr<std::vector<page::MapRun>> result) {
    Completion completion;
    if (result.ok()) {
      completion.runs = *std::move(result);
    } else {
      completion.status = std::move(result).status();
    }
    come_back(*ticket, std::move(completion));
  };
}

Device::Done CompletionQueue::expect(uint32_t id) {
  return [ticket = hand_out(id)](absl::Status status) {
    Completion completion;
    completion.status = std::move(status);
    come_back(*ticket, std::move(completion));
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
  {
    absl::MutexLock lock(&mutex_);
    into.swap(ready_);
    any_.store(false, std::memory_order_relaxed);
  }
  for (const Completion& completion : into) free_tickets_.push_back(completion.ticket);
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
