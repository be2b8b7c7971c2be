#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_protocol.h"

/// Replies of the transmission phase as bytes: pure, without state and without I/O.
namespace blobcache::blockdev::nbd {

/// Which messages a connection has agreed on.
enum class HeaderStyle : uint8_t {
  kSimple,      ///< compact requests, simple replies
  kStructured,  ///< compact requests, replies in chunks
  kExtended,    ///< extended requests, replies in extended chunks
};

/// Names the request that a reply is to. Value type.
struct RequestId {
  uint64_t cookie = 0;
  uint64_t offset = 0;  ///< as in the request; extended replies repeat it

  [[nodiscard]] static RequestId of(const Request& request) {
    return {request.cookie, request.offset};
  }
};

/// One entry of a block status reply. Value type.
struct StatusRun {
  uint64_t length = 0;
  uint32_t flags = 0;

  friend bool operator==(const StatusRun&, const StatusRun&) = default;
};

/// Room for the longest header that ReplyCodec writes: that of a hole, in extended style.
using ReplyHeader = std::array<std::byte, kExtendedChunkHeaderBytes + 12>;

/// Encodes replies in one style. Those with an offset or several parts exist in chunks only.
/// Value type.
class ReplyCodec {
 public:
  explicit ReplyCodec(HeaderStyle style) : style_(style) {}

  [[nodiscard]] HeaderStyle style() const { return style_; }
  [[nodiscard]] bool chunks() const { return style_ != HeaderStyle::kSimple; }

  // These return how many bytes of `out` they used.

  /// Success without data, which ends a reply: a simple reply, or NBD_REPLY_TYPE_NONE.
  size_t encode_done(ReplyHeader& out, RequestId to) const;
  /// What stands before `length` bytes of data (1 to kMaxPayload): a simple reply, which is the
  /// whole reply's, or NBD_REPLY_TYPE_OFFSET_DATA.
  size_t encode_data(ReplyHeader& out, RequestId to, uint64_t offset, uint32_t length,
                     bool done) const;
  /// NBD_REPLY_TYPE_OFFSET_HOLE.
  size_t encode_hole(ReplyHeader& out, RequestId to, uint64_t offset, uint32_t length,
                     bool done) const;
  /// A simple reply that says so.
  static size_t encode_simple_error(ReplyHeader& out, RequestId to, uint32_t error);

  /// NBD_REPLY_TYPE_ERROR_OFFSET when `offset` is given and NBD_REPLY_TYPE_ERROR otherwise, whole
  /// and final. A message over kMaxString is cut short.
  [[nodiscard]] std::vector<std::byte> encode_error(RequestId to, uint32_t error,
                                                    std::string_view message,
                                                    std::optional<uint64_t> offset) const;
  /// NBD_REPLY_TYPE_BLOCK_STATUS (lengths must fit 32 bits) or NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  /// whole. At least one run.
  [[nodiscard]] std::vector<std::byte> encode_status(RequestId to, uint32_t context,
                                                     absl::Span<const StatusRun> runs,
                                                     bool done) const;

 private:
  [[nodiscard]] size_t header_bytes() const {
    return style_ == HeaderStyle::kExtended ? kExtendedChunkHeaderBytes : kChunkHeaderBytes;
  }
  void store_header(std::byte*& at, RequestId to, uint16_t type, uint64_t length, bool done) const;

  HeaderStyle style_;
};

}  // namespace blobcache::blockdev::nbd
