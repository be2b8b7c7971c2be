#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "blockdev/impl/block_status.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "blockdev/impl/nbd_rules.h"
#include "blockdev/impl/reply_queue.h"
#include "store/page/object.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {

/// Puts the replies of one connection in line, in the style that it has agreed on. Where chunks are
/// agreed on, zeros that no frame holds leave as holes.
///
/// A long reply that must not be broken up is a stream: its first part begins it, its last one ends
/// it, and what others reply meanwhile is held back. One thread at a time.
class Replies {
 public:
  explicit Replies(nbd::HeaderStyle style) : codec_(style) {}
  Replies(const Replies&) = delete;
  Replies& operator=(const Replies&) = delete;

  [[nodiscard]] bool chunks() const { return codec_.chunks(); }

  /// The hot path: pins what the device has at hand straight into a reply. False, and nothing said,
  /// when it has not all of it.
  bool hit(Device& device, const nbd::Request& request);

  /// `length` bytes from `offset` on; `last` ends the reply. Not for a part of a simple reply.
  void data(nbd::RequestId to, uint64_t offset, uint32_t length, DeviceBytes bytes, bool one_chunk,
            bool last);
  void done(nbd::RequestId to);
  void error(nbd::RequestId to, uint32_t error, std::string_view text,
             std::optional<uint64_t> offset = std::nullopt);
  /// The device could not do it, at `offset` (from where on it did not, as far as that is known).
  /// The client learns that; the reason may speak of our files, so it goes to the log.
  void failed(const nbd::Request& request, uint64_t offset, absl::Status status);
  /// A chunk for each context.
  void status(nbd::RequestId to, MetaContextSet contexts, absl::Span<const page::MapRun> runs,
              bool one);

  /// A stream of `total` bytes from `offset` on. At least one part must follow at once.
  void begin_stream(nbd::RequestId to, uint64_t offset, uint32_t total);
  void stream(nbd::RequestId to, uint32_t length, DeviceBytes bytes, bool last);
  /// The stream cannot be completed: `missing` bytes of it are made up, and the error follows. Only
  /// where chunks are agreed on.
  void fail_stream(const nbd::Request& request, uint64_t offset, uint64_t missing,
                   absl::Status status);
  [[nodiscard]] bool streaming() const { return streaming_; }

  /// Failures are the shutdown's from now on.
  void shut_down() { shutting_down_ = true; }

  [[nodiscard]] ReplyQueue& out() { return out_; }
  [[nodiscard]] const ReplyQueue& out() const { return out_; }
  /// What waits for the stream's end.
  [[nodiscard]] ReplyQueue& held() { return held_; }
  [[nodiscard]] const ReplyQueue& held() const { return held_; }

  /// How many errors there were since the last call.
  [[nodiscard]] uint64_t take_errors();
  /// The last one of the device's, once; OK when there was none.
  [[nodiscard]] absl::Status take_reason();
  /// One that has no reply.
  void count_error(absl::Status reason);

 private:
  [[nodiscard]] ReplyQueue& line() { return streaming_ ? held_ : out_; }
  void data_chunk(nbd::RequestId to, uint64_t offset, uint32_t length, DeviceBytes bytes,
                  bool last);
  void hole(nbd::RequestId to, uint64_t offset, uint32_t length, bool last);
  void owned(absl::Span<const std::byte> message, bool last);

  const nbd::ReplyCodec codec_;
  ReplyQueue out_;
  ReplyQueue held_;
  bool streaming_ = false;
  nbd::ReplyHeader stream_header_{};  // of the part that comes first
  size_t stream_header_bytes_ = 0;
  bool shutting_down_ = false;
  uint64_t errors_ = 0;
  absl::Status reason_;
};

}  // namespace blobcache::blockdev
