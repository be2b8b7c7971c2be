#include "fusefs/impl/request_gate.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::fusefs {
namespace {

/// How often workers that read are woken, and those that work are looked at, which tell nobody.
constexpr absl::Duration kLook = absl::Milliseconds(1);

/// The part of FUSE_INIT's request and answer that tells who is who.
struct InitRequest {
  fuse_in_header header;
  fuse_init_in body;
};
struct InitAnswer {
  fuse_out_header header;
  fuse_init_out body;
};

/// Copies what there is of a message; what is not there stays zero.
template <typename Message>
Message parse_init(const std::string& bytes) {
  Message message{};
  std::memcpy(&message, bytes.data(), std::min(bytes.size(), sizeof(message)));
  return message;
}

bool same_terms(const fuse_init_out& a, const fuse_init_out& b) {
  return a.major == b.major && a.minor == b.minor && a.max_readahead == b.max_readahead &&
         a.flags == b.flags && a.flags2 == b.flags2 && a.max_write == b.max_write &&
         a.time_gran == b.time_gran && a.max_pages == b.max_pages;
}

}  // namespace

RequestGate::Worker::Worker(RequestGate& its_gate) : gate(its_gate) {
  const absl::MutexLock lock(&gate.mutex_);
  gate.workers_.push_back(this);
}

RequestGate::Worker::~Worker() {
  const absl::MutexLock lock(&gate.mutex_);
  std::erase(gate.workers_, this);
}

RequestGate::Worker& RequestGate::enrol() {
  // A thread serves one mount in its life.
  thread_local std::unique_ptr<Worker> self;
  if (self == nullptr) self = std::make_unique<Worker>(*this);
  return *self;
}

ssize_t RequestGate::read(int device, void* into, size_t size) {
  // libfuse would cancel a thread that waits, wherever it is; what it has read would be lost.
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  Worker& self = enrol();
  for (;;) {
    self.state.store(State::kReads);
    if (closed_.load()) {
      self.state.store(State::kIdle);
      if (wait_until_open()) continue;
      errno = EINTR;
      return -1;
    }
    const ssize_t got = ::read(device, into, size);
    const int error = errno;
    self.state.store(got > 0 ? State::kWorks : State::kIdle);
    if (got < 0 && error == EINTR && closed_.load()) continue;
    if (got > 0 && watches_.load(std::memory_order_relaxed)) {
      note_caller(static_cast<const char*>(into), static_cast<size_t>(got));
    }
    if (got > 0 && !agreed_.load(std::memory_order_relaxed)) {
      note_first_request(static_cast<const char*>(into), static_cast<size_t>(got));
    }
    errno = error;
    return got;
  }
}

ssize_t RequestGate::write(int device, const iovec* pieces, int count) {
  if (!agreed_.load(std::memory_order_relaxed) && note_answer(pieces, count)) {
    size_t size = 0;
    for (int i = 0; i < count; ++i) size += pieces[i].iov_len;
    return static_cast<ssize_t>(size);
  }
  return ::writev(device, pieces, count);
}

bool RequestGate::any(State state) const {
  return std::any_of(workers_.begin(), workers_.end(),
                     [state](const Worker* worker) { return worker->state.load() == state; });
}

void RequestGate::close() {
  closed_.store(true);
  const absl::MutexLock lock(&mutex_);
  while (any(State::kReads)) {
    for (const Worker* worker : workers_) {
      if (worker->state.load() == State::kReads) wake_signal_.send(worker->thread);
    }
    const bool never = false;
    mutex_.AwaitWithTimeout(absl::Condition(&never), kLook);
  }
}

bool RequestGate::wait_until_idle(absl::Time deadline) {
  const absl::MutexLock lock(&mutex_);
  while (any(State::kWorks)) {
    if (absl::Now() >= deadline) return false;
    const bool never = false;
    mutex_.AwaitWithTimeout(absl::Condition(&never), kLook);
  }
  return true;
}

void RequestGate::open() {
  const absl::MutexLock lock(&mutex_);
  closed_.store(false);
}

void RequestGate::dismiss() {
  const absl::MutexLock lock(&mutex_);
  dismissed_ = true;
}

bool RequestGate::wait_until_open() {
  const absl::MutexLock lock(&mutex_);
  const auto may_go = [this]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return dismissed_ || !closed_; };
  mutex_.Await(absl::Condition(&may_go));
  return !closed_;
}

void RequestGate::watch_callers() {
  const absl::MutexLock lock(&mutex_);
  callers_.clear();
  watches_.store(true);
}

std::vector<pid_t> RequestGate::take_callers() {
  const absl::MutexLock lock(&mutex_);
  watches_.store(false);
  std::vector<pid_t> callers(callers_.begin(), callers_.end());
  callers_.clear();
  return callers;
}

void RequestGate::note_caller(const char* bytes, size_t size) {
  fuse_in_header header{};
  if (size < sizeof(header)) return;
  std::memcpy(&header, bytes, sizeof(header));
  // 0: the kernel's own, or somebody's whom this process cannot see.
  if (header.pid == 0) return;
  // He waits for the answer, so he is there.
  const pid_t group = ::getpgid(static_cast<pid_t>(header.pid));
  if (group <= 0) return;
  const absl::MutexLock lock(&mutex_);
  if (watches_.load()) callers_.insert(group);
}

// What was agreed on.

void RequestGate::note_first_request(const char* bytes, size_t size) {
  fuse_in_header header{};
  if (size < sizeof(header)) return;
  std::memcpy(&header, bytes, sizeof(header));
  if (header.opcode != FUSE_INIT) return;
  const absl::MutexLock lock(&mutex_);
  agreement_.request.assign(bytes, size);
}

bool RequestGate::note_answer(const iovec* pieces, int count) {
  const absl::MutexLock lock(&mutex_);
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  }
  const auto request = parse_init<InitRequest>(agreement_.request);
  const auto answer = parse_init<InitAnswer>(bytes);
  if (agreement_.request.empty() || answer.header.unique != request.header.unique) return false;
  agreement_.answer = std::move(bytes);
  // With an older version than its own the kernel asks once more.
  const bool is_last = answer.body.major == request.body.major;
  if (is_last && answer.header.error == 0) agreed_.store(true);
  return agrees_again_;
}

RequestGate::Agreement RequestGate::agreement() const {
  const absl::MutexLock lock(&mutex_);
  return agreement_;
}

absl::Status RequestGate::agree_again(fuse_session& session, const Agreement& former) {
  auto request = parse_init<InitRequest>(former.request);
  const auto answer = parse_init<InitAnswer>(former.answer);
  if (former.request.size() < sizeof(fuse_in_header) || request.header.opcode != FUSE_INIT) {
    return absl::DataLossError("what the kernel asked for first is missing");
  }
  // What the kernel was not told that we want, it does not do: so it is not offered again.
  request.body.flags &= answer.body.flags;
  request.body.flags2 &= answer.body.flags2;
  request.body.max_readahead = std::min(request.body.max_readahead, answer.body.max_readahead);
  std::string bytes = former.request;
  std::memcpy(bytes.data(), &request, std::min(bytes.size(), sizeof(request)));
  {
    const absl::MutexLock lock(&mutex_);
    agrees_again_ = true;
    agreement_.request = former.request;
  }
  fuse_buf buffer = {};
  buffer.mem = bytes.data();
  buffer.size = bytes.size();
  fuse_session_process_buf(&session, &buffer);
  const absl::MutexLock lock(&mutex_);
  agrees_again_ = false;
  const auto now = parse_init<InitAnswer>(agreement_.answer);
  if (!agreed_.load() || !same_terms(now.body, answer.body)) {
    return absl::FailedPreconditionError(
        "this program would talk with the kernel in another way than was agreed on when it was "
        "mounted");
  }
  agreement_ = former;
  return absl::OkStatus();
}

int RequestGate::clone_device(int device) {
  const int clone = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  auto number = static_cast<uint32_t>(device);
  if (clone < 0 || ::ioctl(clone, FUSE_DEV_IOC_CLONE, &number) == 0) return clone;
  ::close(clone);
  return -1;
}

}  // namespace blobcache::fusefs
