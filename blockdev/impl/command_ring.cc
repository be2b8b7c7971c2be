#include "blockdev/impl/command_ring.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace blobcache::blockdev {
namespace {

/// Where a command's arguments begin in an entry, and how long they may be.
constexpr size_t kArgumentsAt = 48;
constexpr size_t kArguments = 80;
/// What a wait is made of; an endless one is none that the kernel knows.
constexpr absl::Duration kLongestWait = absl::Hours(1);

}  // namespace

absl::StatusOr<std::unique_ptr<CommandRing>> CommandRing::create(unsigned depth) {
  std::unique_ptr<CommandRing> made(new CommandRing());  // NOLINT: the constructor is private
  const int error = ::io_uring_queue_init(depth, &made->ring_, IORING_SETUP_SQE128);
  if (error < 0) return base::errno_error(-error, "io_uring");
  made->made_ = true;
  return made;
}

CommandRing::~CommandRing() {
  if (made_) ::io_uring_queue_exit(&ring_);
}

bool CommandRing::command(int fd, uint32_t operation, absl::Span<const std::byte> arguments,
                          uint64_t user_data) {
  if (arguments.size() > kArguments) return false;
  io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) return false;
  std::memset(static_cast<void*>(entry), 0, kArgumentsAt + kArguments);
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = fd;
  entry->cmd_op = operation;
  entry->user_data = user_data;
  std::memcpy(reinterpret_cast<std::byte*>(entry) + kArgumentsAt, arguments.data(),
              arguments.size());
  return true;
}

bool CommandRing::poll(int fd, uint64_t user_data) {
  io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) return false;
  std::memset(static_cast<void*>(entry), 0, kArgumentsAt + kArguments);
  entry->opcode = IORING_OP_POLL_ADD;
  entry->fd = fd;
  entry->poll32_events = POLLIN;
  entry->user_data = user_data;
  return true;
}

absl::StatusOr<int> CommandRing::wait(absl::Duration longest) {
  const absl::Time deadline = absl::Now() + longest;
  const auto again = [](int error) { return error == -EINTR || error == -EAGAIN; };
  int submitted = ::io_uring_submit(&ring_);
  while (again(submitted)) submitted = ::io_uring_submit(&ring_);
  if (submitted < 0) return base::errno_error(-submitted, "io_uring");
  io_uring_cqe* completion = nullptr;
  int waited = 0;
  do {
    const absl::Duration left =
        std::clamp(deadline - absl::Now(), absl::ZeroDuration(), kLongestWait);
    __kernel_timespec timeout{.tv_sec = absl::ToInt64Seconds(left),
                              .tv_nsec = absl::ToInt64Nanoseconds(left) % 1'000'000'000};
    waited = ::io_uring_wait_cqe_timeout(&ring_, &completion, &timeout);
  } while (again(waited) || (waited == -ETIME && absl::Now() < deadline));
  if (waited == -ETIME) return absl::DeadlineExceededError("no answer");
  if (waited < 0) return base::errno_error(-waited, "io_uring");
  const int result = completion->res;
  ::io_uring_cqe_seen(&ring_, completion);
  return result;
}

}  // namespace blobcache::blockdev
