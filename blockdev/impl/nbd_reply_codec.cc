#include "blockdev/impl/nbd_reply_codec.h"

#include "blockdev/impl/big_endian.h"

namespace blobcache::blockdev::nbd {

void ReplyCodec::store_header(std::byte*& at, RequestId to, uint16_t type, uint64_t length,
                              bool done) const {
  const bool extended = style_ == HeaderStyle::kExtended;
  store(at, extended ? kExtendedReplyMagic : kStructuredReplyMagic);
  store(at, done ? kReplyFlagDone : uint16_t{0});
  store(at, type);
  store(at, to.cookie);
  if (extended) {
    store(at, to.offset);
    store(at, length);
  } else {
    store(at, static_cast<uint32_t>(length));
  }
}

size_t ReplyCodec::encode_simple_error(ReplyHeader& out, RequestId to, uint32_t error) {
  std::byte* at = out.data();
  store(at, kSimpleReplyMagic);
  store(at, error);
  store(at, to.cookie);
  return kSimpleReplyBytes;
}

size_t ReplyCodec::encode_done(ReplyHeader& out, RequestId to) const {
  if (!chunks()) return encode_simple_error(out, to, 0);
  std::byte* at = out.data();
  store_header(at, to, kReplyTypeNone, 0, true);
  return header_bytes();
}

size_t ReplyCodec::encode_data(ReplyHeader& out, RequestId to, uint64_t offset, uint32_t length,
                               bool done) const {
  if (!chunks()) return encode_simple_error(out, to, 0);
  std::byte* at = out.data();
  store_header(at, to, kReplyTypeOffsetData, sizeof(offset) + length, done);
  store(at, offset);
  return header_bytes() + sizeof(offset);
}

size_t ReplyCodec::encode_hole(ReplyHeader& out, RequestId to, uint64_t offset, uint32_t length,
                               bool done) const {
  std::byte* at = out.data();
  store_header(at, to, kReplyTypeOffsetHole, sizeof(offset) + sizeof(length), done);
  store(at, offset);
  store(at, length);
  return header_bytes() + sizeof(offset) + sizeof(length);
}

std::vector<std::byte> ReplyCodec::encode_error(RequestId to, uint32_t error,
                                                std::string_view message,
                                                std::optional<uint64_t> offset) const {
  message = message.substr(0, kMaxString);
  const size_t length =
      sizeof(error) + sizeof(uint16_t) + message.size() + (offset ? sizeof(uint64_t) : 0);
  std::vector<std::byte> out(header_bytes() + length);
  std::byte* at = out.data();
  store_header(at, to, offset ? kReplyTypeErrorOffset : kReplyTypeError, length, true);
  store(at, error);
  store(at, static_cast<uint16_t>(message.size()));
  at += message.copy(reinterpret_cast<char*>(at), message.size());
  if (offset) store(at, *offset);
  return out;
}

std::vector<std::byte> ReplyCodec::encode_status(RequestId to, uint32_t context,
                                                 absl::Span<const StatusRun> runs,
                                                 bool done) const {
  const bool extended = style_ == HeaderStyle::kExtended;
  const size_t length = extended ? sizeof(context) + sizeof(uint32_t) + runs.size() * 16
                                 : sizeof(context) + runs.size() * 8;
  std::vector<std::byte> out(header_bytes() + length);
  std::byte* at = out.data();
  store_header(at, to, extended ? kReplyTypeBlockStatusExt : kReplyTypeBlockStatus, length, done);
  store(at, context);
  if (extended) store(at, static_cast<uint32_t>(runs.size()));
  for (const StatusRun& run : runs) {
    if (extended) {
      store(at, run.length);
      store(at, uint64_t{run.flags});
    } else {
      store(at, static_cast<uint32_t>(run.length));
      store(at, run.flags);
    }
  }
  return out;
}

}  // namespace blobcache::blockdev::nbd
