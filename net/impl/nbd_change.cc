// Those operations that change bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "net/impl/nbd_operation.h"

namespace blobcache::net {

namespace {

/// What is written as zeros where the server has no other way. At least as large as any smallest
/// block may be.
constexpr size_t kZeros = size_t{256} << 10;
const std::array<std::byte, kZeros> kZeroBytes{};

}  // namespace

void NbdChange::begin() {
  if (!entered_ && length_ > 0) {
    entered_ = true;
    // By whole blocks, since a part of one is changed by reading and writing all of it.
    const uint64_t first = offset_ & ~mask();
    const uint64_t end = (offset_ + length_ + mask()) & ~mask();
    entered_at_ = absl::Now();
    if (!session_->enter(shared_from_this(), ticket_, first, end - first)) return;
  } else if (entered_ && absl::Now() - entered_at_ >= session_->wire().request_timeout()) {
    fail(absl::UnavailableError("an earlier change of the same bytes took all the time there was"));
  }
  step();
}

void NbdChange::ended() {
  if (!entered_) return;
  // A question that was answered meanwhile may have been answered from before.
  session_->changing(offset_, length_);
  session_->leave(ticket_);
}

bool NbdChange::last_part() {
  const NbdExportInfo& info = session_->info();
  if (!fua_ || info.can_fua || !info.can_flush || flushed_) return false;
  flushed_ = true;
  auto request = std::make_shared<NbdRequest>();
  request->kind = NbdRequest::Kind::kFlush;
  request->fua = true;
  send(std::move(request), [] {});
  return true;
}

NbdRequestRef NbdChange::part(NbdRequest::Kind kind, uint64_t length) const {
  auto request = std::make_shared<NbdRequest>();
  request->kind = kind;
  request->offset = cursor_;
  request->length = length;
  request->fua = fua_ && session_->info().can_fua;
  return request;
}

void NbdChange::change_block(const std::byte* from) {
  const uint64_t in_block = cursor_ & mask();
  const uint64_t length = std::min(left(), session_->info().min_block - in_block);
  auto block = std::make_shared<std::vector<std::byte>>();
  NbdRequestRef write = part(NbdRequest::Kind::kWrite, 0);
  write->offset = cursor_ - in_block;
  read_block(cursor_, block, true, [this, block, write, from, in_block, length]() mutable {
    std::memcpy(block->data() + in_block, from != nullptr ? from : kZeroBytes.data(), length);
    write->from = block->data();
    write->length = block->size();
    send(std::move(write), [block] {});
  });
  cursor_ += length;
}

void NbdWrite::next_part() {
  const std::byte* const from = from_ + (cursor_ - offset_);
  if (at_part_of_block()) {
    change_block(from);
    return;
  }
  NbdRequestRef request =
      part(NbdRequest::Kind::kWrite, std::min(left(), session_->info().max_block) & ~mask());
  request->from = from;
  cursor_ += request->length;
  send(std::move(request), [] {});
}

void NbdZero::next_part() {
  if (at_part_of_block()) {
    change_block(nullptr);
    return;
  }
  const NbdExportInfo& info = session_->info();
  NbdRequestRef request;
  if (info.can_zero) {
    request = part(NbdRequest::Kind::kZero, std::min(left(), kMaxZeroPart) & ~mask());
    request->no_hole = no_hole_;
  } else {
    const uint64_t most = std::min<uint64_t>(kZeros, info.max_block);
    request = part(NbdRequest::Kind::kWrite, std::min(left(), most) & ~mask());
    request->from = kZeroBytes.data();
  }
  cursor_ += request->length;
  send(std::move(request), [] {});
}

void NbdTrim::next_part() {
  const uint64_t first = (cursor_ + mask()) & ~mask();
  const uint64_t length = first < end_ ? std::min(end_ - first, kMaxZeroPart) & ~mask() : 0;
  if (length == 0 || !session_->info().can_trim) {
    cursor_ = end_;
    return;
  }
  cursor_ = first;
  NbdRequestRef request = part(NbdRequest::Kind::kTrim, length);
  cursor_ += length;
  send(std::move(request), [] {});
}

}  // namespace blobcache::net
