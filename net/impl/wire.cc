#include "net/impl/wire.h"

#include <grpc/slice.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "store/page/checksum.h"

namespace blobcache::net {
namespace {

// Field numbers and wire types of proto/blobcache.proto.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kLength = 2;
constexpr uint32_t kFixed32 = 5;
constexpr uint32_t kData = 1;      // ReadResponse.data and PutData.data
constexpr uint32_t kCrc32c = 2;    // ReadResponse.crc32c and PutData.crc32c
constexpr uint32_t kFileSize = 3;  // ReadResponse.file_size
constexpr uint32_t kDigest = 4;    // ReadResponse.digest
constexpr uint32_t kPutData = 2;   // PutRequest.data

constexpr uint8_t tag(uint32_t field, uint32_t type) {
  return static_cast<uint8_t>(field << 3 | type);
}

/// A few bytes of wire format under construction.
class SmallWriter {
 public:
  void byte(uint8_t value) { bytes_[size_++] = value; }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) byte(static_cast<uint8_t>(value | 0x80));
    byte(static_cast<uint8_t>(value));
  }
  void fixed32(uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) byte(static_cast<uint8_t>(value >> shift));
  }
  void copy(absl::Span<const uint8_t> bytes) {
    std::memcpy(&bytes_[size_], bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] const uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] grpc::Slice slice() const { return grpc::Slice(bytes_.data(), size_); }

 private:
  std::array<uint8_t, 64> bytes_;
  size_t size_ = 0;
};

SmallWriter data_head(uint64_t size) {
  SmallWriter head;
  head.byte(tag(kData, kLength));
  head.varint(size);
  return head;
}

SmallWriter read_tail(uint32_t crc, const std::optional<FileFacts>& facts) {
  SmallWriter tail;
  tail.byte(tag(kCrc32c, kFixed32));
  tail.fixed32(crc);
  if (facts.has_value()) {
    tail.byte(tag(kFileSize, kVarint));
    tail.varint(facts->size_bytes);
    tail.byte(tag(kDigest, kLength));
    tail.varint(facts->digest.bytes.size());
    tail.copy(facts->digest.bytes);
  }
  return tail;
}

absl::Span<const std::byte> bytes_of(const iovec& piece) {
  return {static_cast<const std::byte*>(piece.iov_base), piece.iov_len};
}

absl::Span<const std::byte> bytes_of(const grpc::Slice& slice) {
  return {reinterpret_cast<const std::byte*>(slice.begin()), slice.size()};
}

/// What the slices of one pinned message share. The range goes before the hold, so that a ledger
/// that is empty means that nothing is pinned.
struct PinnedMessage {
  std::unique_ptr<PinLedger::Hold> hold;
  page::PinnedRange range;
};
using SharedMessage = std::shared_ptr<PinnedMessage>;

void drop_shared(void* share) {
  std::unique_ptr<SharedMessage>{static_cast<SharedMessage*>(share)}.reset();
}

/// Reads wire format from the slices of a message.
class SliceReader {
 public:
  explicit SliceReader(const std::vector<grpc::Slice>& slices) : slices_(slices) {
    for (const grpc::Slice& slice : slices) left_ += slice.size();
  }

  [[nodiscard]] uint64_t left() const { return left_; }

  [[nodiscard]] bool byte(uint8_t& value) {
    if (left_ == 0) return false;
    while (offset_ == slices_[index_].size()) next_slice();
    value = slices_[index_].begin()[offset_++];
    --left_;
    return true;
  }

  [[nodiscard]] bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t next = 0;
      if (!byte(next)) return false;
      value |= static_cast<uint64_t>(next & 0x7F) << shift;
      if (next < 0x80) return true;
    }
    return false;
  }

  [[nodiscard]] bool fixed32(uint32_t& value) {
    value = 0;
    for (int shift = 0; shift < 32; shift += 8) {
      uint8_t next = 0;
      if (!byte(next)) return false;
      value |= static_cast<uint32_t>(next) << shift;
    }
    return true;
  }

  /// Passes `size` bytes on to `each` as views.
  template <typename Each>
  [[nodiscard]] bool take(uint64_t size, Each&& each) {
    if (size > left_) return false;
    left_ -= size;
    while (size > 0) {
      while (offset_ == slices_[index_].size()) next_slice();
      const absl::Span<const std::byte> piece = bytes_of(slices_[index_]).subspan(offset_, size);
      each(piece);
      offset_ += piece.size();
      size -= piece.size();
    }
    return true;
  }

  [[nodiscard]] bool skip(uint32_t wire_type) {
    const auto nothing = [](absl::Span<const std::byte>) {};
    uint64_t value = 0;
    switch (wire_type) {
      case kVarint:
        return varint(value);
      case kFixed64:
        return take(8, nothing);
      case kLength:
        return varint(value) && take(value, nothing);
      case kFixed32:
        return take(4, nothing);
      default:
        return false;
    }
  }

 private:
  void next_slice() {
    ++index_;
    offset_ = 0;
  }

  const std::vector<grpc::Slice>& slices_;
  size_t index_ = 0;
  size_t offset_ = 0;
  uint64_t left_ = 0;
};

/// One field whose tag has been read. As Protobuf has it, the last of several wins and unknown ones
/// pass.
bool parse_field(SliceReader& reader, uint64_t tag_value, Payload& payload) {
  uint64_t size = 0;
  switch (tag_value) {
    case tag(kData, kLength):
      payload.pieces.clear();
      if (!reader.varint(size)) return false;
      payload.size_bytes = size;
      return reader.take(size, [&](auto piece) { payload.pieces.push_back(piece); });
    case tag(kCrc32c, kFixed32):
      return reader.fixed32(payload.crc32c);
    case tag(kFileSize, kVarint):
      return reader.varint(payload.file_size);
    case tag(kDigest, kLength):
      payload.digest.clear();
      if (!reader.varint(size)) return false;
      return reader.take(size, [&](auto piece) {
        payload.digest.insert(payload.digest.end(), piece.begin(), piece.end());
      });
    default:
      return tag_value >> 3 != 0 && reader.skip(static_cast<uint32_t>(tag_value & 7));
  }
}

bool parse_fields(SliceReader& reader, Payload& payload) {
  while (reader.left() > 0) {
    uint64_t tag_value = 0;
    if (!reader.varint(tag_value) || !parse_field(reader, tag_value, payload)) return false;
  }
  return true;
}

}  // namespace

grpc::ByteBuffer encode_read_copied(const page::PinnedRange& range,
                                    const std::optional<FileFacts>& facts) {
  const SmallWriter head = data_head(range.size_bytes());
  constexpr size_t kMaxTail = 64;
  // One slice, made with its final size (less what the tail leaves) and filled in one go; the
  // checksum is taken from the copy while it is in the cache.
  grpc_slice slice = grpc_slice_malloc(head.size() + range.size_bytes() + kMaxTail);
  uint8_t* const begin = GRPC_SLICE_START_PTR(slice);
  std::memcpy(begin, head.data(), head.size());
  uint8_t* at = begin + head.size();
  uint32_t crc = 0;
  constexpr size_t kStep = size_t{64} << 10;
  for (const iovec& piece : range.pieces()) {
    for (absl::Span<const std::byte> rest = bytes_of(piece); !rest.empty();) {
      const size_t size = std::min(rest.size(), kStep);
      std::memcpy(at, rest.data(), size);
      crc = page::crc32c({reinterpret_cast<const std::byte*>(at), size}, crc);
      at += size;
      rest.remove_prefix(size);
    }
  }
  const SmallWriter tail = read_tail(crc, facts);
  std::memcpy(at, tail.data(), tail.size());
  at += tail.size();
  GRPC_SLICE_SET_LENGTH(slice, static_cast<size_t>(at - begin));
  const grpc::Slice whole(slice, grpc::Slice::STEAL_REF);
  return grpc::ByteBuffer(&whole, 1);
}

grpc::ByteBuffer encode_read_pinned(page::PinnedRange range, std::unique_ptr<PinLedger::Hold> hold,
                                    const std::optional<FileFacts>& facts) {
  auto message = std::make_shared<PinnedMessage>();
  message->range = std::move(range);
  message->hold = std::move(hold);
  std::vector<grpc::Slice> slices;
  slices.reserve(message->range.pieces().size() + 2);
  slices.push_back(data_head(message->range.size_bytes()).slice());
  uint32_t crc = 0;
  for (const iovec& piece : message->range.pieces()) {
    crc = page::crc32c(bytes_of(piece), crc);
    // gRPC owns the share from here on and gives it back through drop_shared.
    slices.emplace_back(piece.iov_base, piece.iov_len, &drop_shared,
                        std::make_unique<SharedMessage>(message).release());
  }
  slices.push_back(read_tail(crc, facts).slice());
  return grpc::ByteBuffer(slices.data(), slices.size());
}

grpc::ByteBuffer encode_put_data(const grpc::Slice& data) {
  const SmallWriter inner = data_head(data.size());
  SmallWriter tail;
  tail.byte(tag(kCrc32c, kFixed32));
  tail.fixed32(page::crc32c(bytes_of(data)));
  SmallWriter head;
  head.byte(tag(kPutData, kLength));
  head.varint(inner.size() + data.size() + tail.size());
  head.copy({inner.data(), inner.size()});
  const std::array<grpc::Slice, 3> slices = {head.slice(), data, tail.slice()};
  return grpc::ByteBuffer(slices.data(), slices.size());
}

bool Payload::intact() const {
  uint32_t crc = 0;
  for (const absl::Span<const std::byte> piece : pieces) crc = page::crc32c(piece, crc);
  return crc == crc32c;
}

std::optional<Payload> parse_read_response(const grpc::ByteBuffer& message) {
  Payload payload;
  if (message.Valid() && !message.Dump(&payload.slices).ok()) return std::nullopt;
  SliceReader reader(payload.slices);
  if (!parse_fields(reader, payload)) return std::nullopt;
  return payload;
}

std::optional<Payload> parse_put_data(const grpc::ByteBuffer& message) {
  Payload payload;
  if (!message.Valid() || !message.Dump(&payload.slices).ok()) return std::nullopt;
  SliceReader reader(payload.slices);
  uint8_t first = 0;
  uint64_t size = 0;
  if (!reader.byte(first) || first != tag(kPutData, kLength)) return std::nullopt;
  if (!reader.varint(size) || size != reader.left()) return std::nullopt;
  if (!parse_fields(reader, payload)) return std::nullopt;
  return payload;
}

}  // namespace blobcache::net
