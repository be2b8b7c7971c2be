#include "store/page/impl/io_ring.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "absl/time/clock.h"
#include "base/io_flusher.h"
#include "base/status.h"
#include "store/page/allow_blocking.h"
#include "store/page/impl/disk_calls.h"
#include "store/page/impl/thread_ring_impl.h"

namespace blobcache::page {
namespace {

/// After so many in a row "try again" is an error.
constexpr unsigned kMaxRefusals = 1000;

/// Completions handled between two submissions of what their callbacks ask for.
constexpr unsigned kSubmitEvery = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<IoRing>> IoRing::create(unsigned depth, DiskFault fault) {
  std::unique_ptr<IoRing> ring(
      new IoRing(depth, std::move(fault)));  // NOLINT: the constructor is private
  ring->wake_up_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!ring->wake_up_.valid()) return base::errno_error(errno, "eventfd");
  absl::Notification ready;
  int error = 0;
  ring->thread_ = std::thread([raw = ring.get(), &ready, &error] { raw->work(ready, error); });
  ready.WaitForNotification();
  if (error == 0) return ring;
  return base::errno_error(-error, "io_uring is not to be had (kernel.io_uring_disabled?)");
}

IoRing::~IoRing() {
  if (!thread_.joinable()) return;
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  constexpr uint64_t kOne = 1;
  // Cannot fail: the counter is nowhere near its end.
  (void)!::write(wake_up_.get(), &kOne, sizeof(kOne));
  thread_.join();
}

void IoRing::read(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed, Done done) {
  if (AllowBlocking::allowed()) {
    const int fault = fault_ ? fault_({DiskStep::Kind::kRead, offset, into.size()}) : 0;
    const int64_t moved = read_fully(fd, into, offset, needed, fault);
    // What goes on now may be others' reads, who waited for this one's place: not here.
    const AllowBlocking no_further(false);
    if (moved < 0) {
      done(static_cast<int>(moved));
    } else {
      done(static_cast<size_t>(moved) >= needed ? 0 : -ENODATA);
    }
    return;
  }
  ThreadRing::Impl* own = fault_ ? nullptr : ThreadRing::current();
  if (own != nullptr && own->read(fd, into, offset, needed, done, *this)) return;
  read_by_ring(fd, into, offset, needed, std::move(done));
}

void IoRing::read_by_ring(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed,
                          Done done) {
  auto operation = std::make_unique<Operation>();
  operation->fd = fd;
  operation->data = into.data();
  operation->size = into.size();
  operation->offset = offset;
  operation->needed = needed;
  operation->done = std::move(done);
  submit(std::move(operation));
}

void IoRing::write(int fd, absl::Span<const std::byte> from, uint64_t offset, Done done) {
  auto operation = std::make_unique<Operation>();
  operation->is_write = true;
  operation->fd = fd;
  operation->data = const_cast<std::byte*>(from.data());  // NOLINT: a write only reads it
  operation->size = from.size();
  operation->offset = offset;
  operation->needed = from.size();
  operation->done = std::move(done);
  submit(std::move(operation));
}

void IoRing::submit(std::unique_ptr<Operation> operation) {
  if (fault_) {
    const auto kind = operation->is_write ? DiskStep::Kind::kWrite : DiskStep::Kind::kRead;
    operation->fault = fault_({kind, operation->offset, operation->size});
  }
  {
    const absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(operation));
    if (!std::exchange(sleeps_, false)) return;
  }
  constexpr uint64_t kOne = 1;
  // Cannot fail: the counter is nowhere near its end.
  (void)!::write(wake_up_.get(), &kOne, sizeof(kOne));
}

/// 0, or a negative errno value. Only the thread that sets it up may use the ring.
int IoRing::set_up() {
  const unsigned entries = depth_ + 1;  // and the watch
#ifdef IORING_SETUP_DEFER_TASKRUN
  const int error =
      io_uring_queue_init(entries, &ring_, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (error != -EINVAL) return error;
#endif
  return io_uring_queue_init(entries, &ring_, 0);  // before Linux 6.1
}

void IoRing::prepare(Operation* operation) {
  // depth_ bounds what is in the kernel, so there is always a free entry.
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  const size_t from = resume_at(operation->moved);
  std::byte* data = operation->data + from;
  const auto size = static_cast<unsigned>(operation->size - from);
  const uint64_t offset = operation->offset + from;
  if (operation->fault < 0) {
    io_uring_prep_nop(sqe);
  } else if (operation->is_write) {
    io_uring_prep_write(sqe, operation->fd, data, size, offset);
  } else {
    io_uring_prep_read(sqe, operation->fd, data, size, offset);
  }
  io_uring_sqe_set_data(sqe, operation);
}

void IoRing::watch_wake_up() {
  if (std::exchange(watches_, true)) return;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_read(sqe, wake_up_.get(), &wake_ups_, sizeof(wake_ups_), 0);
  io_uring_sqe_set_data(sqe, nullptr);
}

void hand_over(io_uring& ring) {
  while (io_uring_sq_ready(&ring) > 0) {
    const int submitted = io_uring_submit(&ring);
    if (submitted > 0 || submitted == -EINTR) continue;
    if (submitted != 0 && submitted != -EAGAIN && submitted != -EBUSY && submitted != -ENOMEM) {
      spdlog::critical("the kernel takes no more disk requests: {}",
                       std::generic_category().message(-submitted));
      std::abort();
    }
    // It is short of memory. Nobody would ever wake the requests that stayed behind.
    absl::SleepFor(absl::Milliseconds(1));
  }
}

bool IoRing::take_waiting(bool sleeps_then) {
  const absl::MutexLock lock(&mutex_);
  while (in_kernel_ < depth_ && !waiting_.empty()) {
    ++in_kernel_;
    prepare(waiting_.front().release());
    waiting_.pop_front();
  }
  sleeps_ = sleeps_then;
  return !ending_ || in_kernel_ > 0;
}

void IoRing::complete(Operation* operation, int result) {
  if (operation->fault < 0) result = operation->fault;
  // With direct I/O no odd part can be asked for: all was moved, and a part is said to be.
  if (operation->fault > 0) result = std::min(result, operation->fault);
  operation->fault = 0;
  const size_t before = operation->moved;
  if (result > 0) operation->moved = resume_at(before) + static_cast<size_t>(result);
  // A buffered read goes on in the thread that submitted it; one that exits meanwhile leaves it
  // with the last two. Submitted again from here it has a thread that stays.
  const bool refused =
      result == -EAGAIN || result == -EINTR || result == -EFAULT || result == -ECANCELED;
  operation->refusals = refused ? operation->refusals + 1 : 0;
  const bool passing = operation->moved > before || (refused && operation->refusals < kMaxRefusals);
  if (passing && operation->moved < operation->needed) return prepare(operation);
  const std::unique_ptr<Operation> finished(operation);
  {
    const absl::MutexLock lock(&mutex_);
    --in_kernel_;
  }
  if (finished->moved >= finished->needed) {
    finished->done(0);
  } else {
    // It got no further, without a word why: a read is at the file's end, and a write never will.
    finished->done(result < 0 ? result : finished->is_write ? -EIO : -ENODATA);
  }
}

void IoRing::reap_all() {
  // Many completions are often there at once. What they bring on goes to the kernel by a few, so
  // that the disk is busy while the rest is handled.
  io_uring_cqe* cqe = nullptr;
  for (unsigned handled = 1; io_uring_peek_cqe(&ring_, &cqe) == 0; ++handled) {
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    if (operation == nullptr) {
      watches_ = false;
    } else {
      complete(operation, result);
    }
    if (handled % kSubmitEvery != 0) continue;
    (void)take_waiting(/*sleeps_then=*/false);
    hand_over(ring_);
  }
}

void IoRing::work(absl::Notification& ready, int& error) {
  // Block devices of this machine may wait for what this thread does.
  base::become_io_flusher();
  error = set_up();
  const bool going = error == 0;
  ready.Notify();  // the two are gone from here on
  if (!going) return;
  for (;;) {
    watch_wake_up();
    if (!take_waiting(/*sleeps_then=*/true)) break;
    // Errors are told by what was not submitted, and by the next call.
    (void)io_uring_submit_and_wait(&ring_, 1);
    {
      const absl::MutexLock lock(&mutex_);
      sleeps_ = false;
    }
    hand_over(ring_);
    reap_all();
  }
  io_uring_queue_exit(&ring_);
}

}  // namespace blobcache::page
