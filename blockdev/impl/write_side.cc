#include "blockdev/impl/write_side.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

bool has_flag(const nbd::Request& request, uint16_t flag) { return (request.flags & flag) != 0; }

}  // namespace

void WriteSide::begin_write(const nbd::Request& request) {
  const uint32_t write = writes_.add({.request = request, .status = {}});
  receiving_ = {.write = write,
                .next = request.offset,
                .left = request.length,
                .refused = std::nullopt,
                .refusal = {}};
  next_buffer();
}

void WriteSide::begin_drain(const nbd::Request& request, const Refusal& refusal) {
  receiving_ = {
      .write = 0, .next = 0, .left = request.length, .refused = request, .refusal = refusal};
}

/// Tries to have a buffer for the next part; parts end where the device likes it best.
void WriteSide::next_buffer() {
  if (!receiving_ || draining() || buffer_) return;
  const uint64_t to_border = Device::kMaxWrite - receiving_->next % Device::kMaxWrite;
  part_bytes_ = std::min(receiving_->left, to_border);
  filled_ = 0;
  buffer_ = buffers_.take(part_bytes_);
}

bool WriteSide::receive(nbd::Bytes& input) {
  if (draining()) {
    const uint64_t taken = std::min<uint64_t>(receiving_->left, input.size());
    input.remove_prefix(taken);
    receiving_->left -= taken;
    if (receiving_->left > 0) return false;
    end_payload();
    return true;
  }
  while (receiving_) {
    if (!buffer_ || input.empty()) return false;
    const size_t taken = std::min(part_bytes_ - filled_, input.size());
    std::memcpy(buffer_->bytes.get() + filled_, input.data(), taken);
    input.remove_prefix(taken);
    received(taken);
  }
  return true;
}

absl::Span<std::byte> WriteSide::target() const {
  if (!receiving_ || !buffer_ || part_bytes_ - filled_ < kLongPayload) return {};
  return buffer_->span().subspan(filled_, part_bytes_ - filled_);
}

void WriteSide::received(size_t bytes) {
  filled_ += bytes;
  receiving_->left -= bytes;
  if (filled_ == part_bytes_) part_filled();
}

void WriteSide::part_filled() {
  Receiving& payload = *receiving_;
  const uint32_t number = payload.write;
  const uint64_t offset = payload.next;
  payload.next += part_bytes_;
  Write& write = writes_.at(number);
  const bool whole = part_bytes_ == write.request.length;
  const bool fua = has_flag(write.request, nbd::kCmdFlagFua);
  write.flush_last = fua && !whole;
  const absl::Span<const std::byte> bytes = buffer_->span().first(part_bytes_);
  const bool failed = !write.status.ok();
  if (failed) {
    // What follows a failure is not worth writing.
    buffers_.give_back(*std::exchange(buffer_, std::nullopt));
  } else {
    Device::Done done = begin_part(number, offset, std::exchange(buffer_, std::nullopt));
    device_.write(offset, bytes, fua && whole, std::move(done));
  }
  if (payload.left > 0) {
    next_buffer();
  } else {
    end_payload();
  }
}

void WriteSide::end_payload() {
  const Receiving payload = *std::exchange(receiving_, std::nullopt);
  if (payload.refused) {
    replies_.error({payload.refused->cookie, payload.refused->offset}, payload.refusal.error,
                   payload.refusal.text);
    return;
  }
  writes_.at(payload.write).complete = true;
  maybe_answer(payload.write);
}

Device::Done WriteSide::begin_part(uint32_t write, uint64_t offset,
                                   std::optional<PayloadBuffers::Buffer> buffer) {
  ++writes_.at(write).parts;
  const uint32_t slot = parts_.add({write, offset, std::move(buffer)});
  return completions_.expect(first_id_ + slot);
}

void WriteSide::change(const nbd::Request& request) {
  const uint32_t write = writes_.add({.request = request, .complete = true, .status = {}});
  Device::Done done = begin_part(write, request.offset, std::nullopt);
  const bool fua = has_flag(request, nbd::kCmdFlagFua);
  switch (request.type) {
    case nbd::kCmdWriteZeroes:
      device_.write_zeroes(request.offset, request.length,
                           {.fua = fua,
                            .no_hole = has_flag(request, nbd::kCmdFlagNoHole),
                            .fast = has_flag(request, nbd::kCmdFlagFastZero)},
                           std::move(done));
      break;
    case nbd::kCmdTrim:
      device_.trim(request.offset, request.length, fua, std::move(done));
      break;
    default:
      device_.flush(std::move(done));
      break;
  }
}

void WriteSide::completed(uint32_t slot, Completion completion) {
  Part part = parts_.remove(slot);
  Write& write = writes_.at(part.write);
  --write.parts;
  if (!completion.status.ok() && write.status.ok()) {
    write.status = std::move(completion.status);
    write.failed_at = part.offset;
  }
  maybe_answer(part.write);
  if (!part.buffer) return;
  buffers_.give_back(*std::move(part.buffer));
  next_buffer();
}

/// Answers when nothing more has to be waited for.
void WriteSide::maybe_answer(uint32_t number) {
  Write& write = writes_.at(number);
  if (!write.complete || write.parts > 0) return;
  if (write.status.ok() && std::exchange(write.flush_last, false)) {
    device_.flush(begin_part(number, write.request.offset, std::nullopt));
    return;
  }
  Write done = writes_.remove(number);
  if (done.status.ok()) {
    replies_.done({done.request.cookie, done.request.offset});
  } else {
    replies_.failed(done.request, done.failed_at, std::move(done.status));
  }
}

void WriteSide::abandon() {
  if (!receiving_) return;
  const Receiving payload = *std::exchange(receiving_, std::nullopt);
  if (buffer_) buffers_.give_back(*std::exchange(buffer_, std::nullopt));
  if (payload.refused) return;
  Write& write = writes_.at(payload.write);
  write.complete = true;
  if (write.status.ok()) {
    write.status = absl::CancelledError("the payload did not come whole");
    write.failed_at = payload.next;
  }
  maybe_answer(payload.write);
}

}  // namespace blobcache::blockdev
