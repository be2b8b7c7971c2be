#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_rules.h"
#include "blockdev/impl/payload_buffers.h"
#include "blockdev/impl/replies.h"
#include "blockdev/impl/slot_table.h"

namespace blobcache::blockdev {

/// What changes the device: NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM and NBD_CMD_FLUSH of
/// one connection; and the payloads of its requests, also of those that are refused.
///
/// A payload is taken in pieces of at most Device::kMaxWrite, which are written as they come; when
/// there is no buffer for the next one the connection's input waits. A long write that has to be on
/// stable storage (FUA) is flushed at its end. One thread, the connection's.
class WriteSide {
 public:
  /// Bytes from which on a payload is received where the device takes it from, and not together
  /// with what comes before and after it.
  static constexpr size_t kLongPayload = size_t{32} << 10;

  /// All must outlive this. Completions of its slots come with ids from `first_id` on.
  WriteSide(Device& device, Replies& replies, CompletionQueue& completions, uint32_t first_id,
            ByteAllowance& payloads)
      : device_(device),
        replies_(replies),
        completions_(completions),
        first_id_(first_id),
        buffers_(payloads) {}
  WriteSide(const WriteSide&) = delete;
  WriteSide& operator=(const WriteSide&) = delete;

  /// A valid request whose payload follows.
  void begin_write(const nbd::Request& request);
  /// A request that is refused once its payload, of at least a byte, has been read past.
  void begin_drain(const nbd::Request& request, const Refusal& refusal);
  /// A valid request without a payload.
  void change(const nbd::Request& request);

  /// A payload is being received.
  [[nodiscard]] bool receiving() const { return receiving_.has_value(); }
  /// And there is room for more of it.
  [[nodiscard]] bool can_receive() const { return receiving_ && (buffer_ || draining()); }
  /// Takes what is the payload's off the front of `input`. True when it is through; false when more
  /// has to come, or there is no buffer.
  [[nodiscard]] bool receive(nbd::Bytes& input);
  /// Where the next bytes of the payload could go without a detour; empty when that is not worth
  /// it. And so many have come there.
  [[nodiscard]] absl::Span<std::byte> target() const;
  void received(size_t bytes);

  /// The device has done what is in this slot.
  void completed(uint32_t slot, Completion completion);
  /// The rest of the payload will not come.
  void abandon();

  /// Requests that have no answer yet.
  [[nodiscard]] size_t requests() const { return writes_.size() + (draining() ? 1 : 0); }
  /// Memory that nobody uses and other connections may want; and gives it back.
  [[nodiscard]] bool has_spare() const { return buffers_.has_spare(); }
  void free_spare() { buffers_.release_free(); }

 private:
  struct Write {
    nbd::Request request;
    uint32_t parts = 0;       // under way
    bool complete = false;    // no part will be added
    bool flush_last = false;  // when all others are done
    uint64_t failed_at = 0;   // with the status, the first that failed
    absl::Status status;
  };
  struct Part {
    uint32_t write = 0;
    uint64_t offset = 0;
    std::optional<PayloadBuffers::Buffer> buffer;
  };
  /// The payload that is being received, of a write or of what is refused.
  struct Receiving {
    uint32_t write = 0;
    uint64_t next = 0;  // the offset of the part that is being filled
    uint64_t left = 0;  // bytes still to come
    std::optional<nbd::Request> refused;
    Refusal refusal;
  };

  /// Whether what comes is thrown away.
  [[nodiscard]] bool draining() const { return receiving_ && receiving_->refused.has_value(); }
  void next_buffer();
  void part_filled();
  void end_payload();
  [[nodiscard]] Device::Done begin_part(uint32_t write, uint64_t offset,
                                        std::optional<PayloadBuffers::Buffer> buffer);
  void maybe_answer(uint32_t write);

  Device& device_;
  Replies& replies_;
  CompletionQueue& completions_;
  const uint32_t first_id_;
  PayloadBuffers buffers_;

  SlotTable<Write> writes_;
  SlotTable<Part> parts_;
  std::optional<Receiving> receiving_;
  std::optional<PayloadBuffers::Buffer> buffer_;  // of the part that is being filled
  size_t part_bytes_ = 0;                         // what it will have
  size_t filled_ = 0;                             // what it has
};

}  // namespace blobcache::blockdev
