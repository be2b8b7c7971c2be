#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace blobcache::blockdev {

/// An io_uring whose entries have room for a command to a driver (IORING_SETUP_SQE128,
/// IORING_OP_URING_CMD). One thread at a time.
class CommandRing {
 public:
  /// A place for so many commands and a poll or two.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CommandRing>> create(unsigned depth);
  ~CommandRing();
  CommandRing(const CommandRing&) = delete;
  CommandRing& operator=(const CommandRing&) = delete;

  /// Queues a command of at most 80 bytes; false when the ring is full.
  [[nodiscard]] bool command(int fd, uint32_t operation, absl::Span<const std::byte> arguments,
                             uint64_t user_data);
  /// Queues a wait for `fd` to be readable.
  [[nodiscard]] bool poll(int fd, uint64_t user_data);

  /// Submits what is queued and waits for the next completion: its result, an errno value below
  /// zero for a failure. DEADLINE_EXCEEDED when there is none for so long; what was queued may
  /// still come to an end, or is given up with the ring.
  [[nodiscard]] absl::StatusOr<int> wait(absl::Duration longest);

  [[nodiscard]] io_uring& get() { return ring_; }

 private:
  CommandRing() = default;

  io_uring ring_{};
  bool made_ = false;
};

}  // namespace blobcache::blockdev
