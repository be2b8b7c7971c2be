#include "blockdev/impl/reply_queue.h"

#include <cstring>
#include <utility>

namespace blobcache::blockdev {
namespace {

constexpr size_t kFirstSlots = 64;

/// Adds [base, base + length) to `into` without its first `skip` bytes, which are taken off `skip`.
void add_piece(absl::Span<iovec> into, size_t& used, uint64_t& skip, void* base, size_t length) {
  if (skip >= length) {
    skip -= length;
    return;
  }
  into[used++] = {static_cast<std::byte*>(base) + skip, length - skip};
  skip = 0;
}

}  // namespace

ReplyQueue::ReplyQueue() : slots_(kFirstSlots) {}

Reply& ReplyQueue::push() {
  if (count_ == slots_.size()) grow();
  return at(count_++);
}

void ReplyQueue::drop_last() { reset(at(--count_)); }

void ReplyQueue::finish() {
  const Reply& reply = at(count_ - 1);
  payload_bytes_ += reply.payload_bytes;
  if (reply.ends_request) ++requests_;
}

void ReplyQueue::append(ReplyQueue& other) {
  while (other.count_ > 0) {
    push() = std::move(other.at(0));
    finish();
    reset(other.at(0));
    other.head_ = (other.head_ + 1) & (other.slots_.size() - 1);
    --other.count_;
  }
  other.clear();
}

size_t ReplyQueue::gather(absl::Span<iovec> into) const {
  size_t used = 0;
  uint64_t skip = head_sent_;
  for (size_t i = 0; i < count_; ++i) {
    const Reply& reply = at(i);
    const size_t pieces = 1 + (reply.owned.empty() ? reply.range.pieces().size() : 1);
    if (pieces > into.size() - used) break;
    add_piece(into, used, skip, const_cast<std::byte*>(reply.header.data()), reply.header_bytes);
    if (!reply.owned.empty()) {
      add_piece(into, used, skip, reply.owned.data(), reply.owned.size());
      continue;
    }
    for (const iovec& piece : reply.range.pieces()) {
      add_piece(into, used, skip, piece.iov_base, piece.iov_len);
    }
  }
  return used;
}

void ReplyQueue::sent(uint64_t bytes) {
  head_sent_ += bytes;
  while (count_ > 0) {
    Reply& reply = at(0);
    const uint64_t whole = reply.header_bytes + reply.payload_bytes;
    if (head_sent_ < whole) return;
    head_sent_ -= whole;
    payload_bytes_ -= reply.payload_bytes;
    if (reply.ends_request) --requests_;
    reset(reply);
    head_ = (head_ + 1) & (slots_.size() - 1);
    --count_;
    ++sent_count_;
  }
}

uint64_t ReplyQueue::pinned_bytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < count_; ++i) bytes += at(i).range.size_bytes();
  return bytes;
}

void ReplyQueue::copy_out() {
  for (size_t i = 0; i < count_; ++i) {
    Reply& reply = at(i);
    if (reply.range.pieces().empty()) continue;
    ByteBuffer copy(reply.range.size_bytes());
    std::byte* to = copy.data();
    for (const iovec& piece : reply.range.pieces()) {
      std::memcpy(to, piece.iov_base, piece.iov_len);
      to += piece.iov_len;
    }
    reply.owned = std::move(copy);
    reply.range.release();
  }
}

void ReplyQueue::clear() {
  while (count_ > 0) drop_last();
  head_ = 0;
  head_sent_ = 0;
  requests_ = 0;
  payload_bytes_ = 0;
}

void ReplyQueue::grow() {
  std::vector<Reply> larger(slots_.size() * 2);
  for (size_t i = 0; i < count_; ++i) larger[i] = std::move(at(i));
  slots_ = std::move(larger);
  head_ = 0;
}

void ReplyQueue::reset(Reply& reply) {
  reply.header_bytes = 0;
  reply.range.release();
  if (!reply.owned.empty()) reply.owned = {};
  reply.payload_bytes = 0;
  reply.ends_request = true;
}

}  // namespace blobcache::blockdev
