#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/byte_buffer.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {

/// One message on its way out: a header, then a payload, which is views into pinned frames, or
/// bytes of our own (an error chunk, or what were pinned frames before the client stalled). Either
/// may be empty.
struct Reply {
  nbd::ReplyHeader header;
  size_t header_bytes = 0;
  page::PinnedRange range;
  ByteBuffer owned;  ///< used when not empty, in place of `range`
  uint64_t payload_bytes = 0;
  bool ends_request = true;  ///< the last message of the reply to one request
};

/// The messages that one connection has yet to send, in order. The slots are recycled, so that
/// queueing a hit allocates nothing once the queue has grown to its working size; the user bounds
/// it.
///
/// One thread at a time.
class ReplyQueue {
 public:
  ReplyQueue();

  /// A new message at the end, empty, to be filled and then finish()ed. Valid until the next call.
  [[nodiscard]] Reply& push();
  /// Takes the message of the last push() back.
  void drop_last();
  /// Counts the message of the last push() in; call it when header and payload are set.
  void finish();

  /// Moves all of `other` behind what is here.
  void append(ReplyQueue& other);

  /// Fills `into` with what comes next on the wire; returns how many entries it used.
  [[nodiscard]] size_t gather(absl::Span<iovec> into) const;
  /// So many bytes of what gather() gave have been sent: lets go of what is through.
  void sent(uint64_t bytes);

  /// Payload bytes that are views into pinned frames: what copy_out() would copy.
  [[nodiscard]] uint64_t pinned_bytes() const;
  /// Copies every pinned payload into memory of our own and unpins it.
  void copy_out();
  /// Drops everything.
  void clear();

  [[nodiscard]] bool empty() const { return count_ == 0; }
  /// Requests whose last message is here, and payload bytes that are not wholly sent.
  [[nodiscard]] size_t requests() const { return requests_; }
  [[nodiscard]] uint64_t payload_bytes() const { return payload_bytes_; }
  /// How many messages have been sent whole and how many were ever queued: the age of the queue.
  [[nodiscard]] uint64_t sent_count() const { return sent_count_; }
  [[nodiscard]] uint64_t queued_count() const { return sent_count_ + count_; }

 private:
  [[nodiscard]] Reply& at(size_t index) { return slots_[(head_ + index) & (slots_.size() - 1)]; }
  [[nodiscard]] const Reply& at(size_t index) const {
    return slots_[(head_ + index) & (slots_.size() - 1)];
  }
  void grow();
  static void reset(Reply& reply);

  std::vector<Reply> slots_;  // a ring; its size is a power of two
  size_t head_ = 0;
  size_t count_ = 0;
  uint64_t head_sent_ = 0;  // bytes of the first message that are sent
  size_t requests_ = 0;
  uint64_t payload_bytes_ = 0;
  uint64_t sent_count_ = 0;
};

}  // namespace blobcache::blockdev
