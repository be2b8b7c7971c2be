#include "store/page/thread_ring.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "store/page/impl/thread_ring_impl.h"

namespace blobcache::page {
namespace {

ThreadRing*& current_ring() {
  static thread_local ThreadRing* ring = nullptr;
  return ring;
}

}  // namespace

ThreadRing::ThreadRing() : impl_(std::make_unique<Impl>()) {}
ThreadRing::~ThreadRing() { finish(); }

ThreadRing::Scope::Scope(ThreadRing& ring) : before_(std::exchange(current_ring(), &ring)) {}
ThreadRing::Scope::~Scope() { current_ring() = before_; }

ThreadRing::NoScope::NoScope() : before_(std::exchange(current_ring(), nullptr)) {}
ThreadRing::NoScope::~NoScope() { current_ring() = before_; }

ThreadRing::Impl* ThreadRing::current() {
  const ThreadRing* ring = current_ring();
  return ring == nullptr ? nullptr : ring->impl_.get();
}

int ThreadRing::wake_fd() const { return impl_->busy() ? impl_->wake_fd() : -1; }
void ThreadRing::submit() { impl_->submit(); }
void ThreadRing::woken() { impl_->woken(); }
void ThreadRing::reap() { impl_->reap(); }
void ThreadRing::finish() {
  while (impl_->busy()) impl_->wait();
}

struct ThreadRing::Impl::Read {
  int fd = -1;
  absl::Span<std::byte> into;
  uint64_t offset = 0;
  size_t needed = 0;
  IoRing::Done done;
  IoRing& store_ring;
};

ThreadRing::Impl::~Impl() {
  if (state_ == State::kReady) io_uring_queue_exit(&ring_);
}

bool ThreadRing::Impl::is_set_up() {
  if (state_ != State::kNew) return state_ == State::kReady;
  state_ = State::kNone;  // until all of it is there
#ifdef IORING_SETUP_DEFER_TASKRUN
  event_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  constexpr unsigned kFlags =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  if (!event_.valid() || io_uring_queue_init(kDepth, &ring_, kFlags) != 0) return false;
  // The ring's own descriptor tells poll(2) nothing of what the kernel deferred to this thread.
  if (io_uring_register_eventfd(&ring_, event_.get()) != 0) {
    io_uring_queue_exit(&ring_);
    return false;
  }
  state_ = State::kReady;
#endif
  return state_ == State::kReady;
}

bool ThreadRing::Impl::read(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed,
                            IoRing::Done& done, IoRing& store_ring) {
  if (under_way_ >= kDepth || !is_set_up()) return false;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return false;
  auto read = std::make_unique<Read>(Read{fd, into, offset, needed, std::move(done), store_ring});
  io_uring_prep_read(sqe, fd, into.data(), static_cast<unsigned>(into.size()), offset);
  io_uring_sqe_set_data(sqe, read.release());
  ++under_way_;
  if (io_uring_sq_ready(&ring_) >= kSubmitEvery) submit();
  return true;
}

void ThreadRing::Impl::submit() {
  if (under_way_ > 0) hand_over(ring_);
}

void ThreadRing::Impl::woken() {
  uint64_t count = 0;
  // Nothing to read is no error: whatever came was seen already.
  (void)!::read(event_.get(), &count, sizeof(count));
}

void ThreadRing::Impl::reap() {
  if (under_way_ == 0) return;
  io_uring_cqe* cqe = nullptr;
  while (under_way_ > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0) {
    const std::unique_ptr<Read> read(static_cast<Read*>(io_uring_cqe_get_data(cqe)));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    --under_way_;
    if (result >= 0 && static_cast<size_t>(result) >= read->needed) {
      read->done(0);
    } else {
      read->store_ring.read_by_ring(read->fd, read->into, read->offset, read->needed,
                                    std::move(read->done));
    }
  }
  submit();
}

void ThreadRing::Impl::wait() {
  // Errors are told by the next call, and by what was not submitted.
  (void)io_uring_submit_and_wait(&ring_, 1);
  reap();
}

}  // namespace blobcache::page
