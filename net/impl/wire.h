#pragma once

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "net/impl/pin_ledger.h"
#include "store/page/object_key.h"
#include "store/page/pinned_range.h"

namespace blobcache::net {

// The two messages that carry bytes (ReadResponse and PutRequest.data) are written and read here by
// hand, in Protobuf's wire format, because the generated classes would copy every byte into a
// string and out again. Everything else goes through the generated code, and so does whatever does
// not look as expected.

/// The most bytes of content that one message carries.
inline constexpr size_t kMaxMessageData = size_t{1} << 20;

/// What the first answer to a read says about the file.
struct FileFacts {
  uint64_t size_bytes = 0;
  page::ObjectKey digest;
};

/// A ReadResponse whose data is copied out of `range`.
[[nodiscard]] grpc::ByteBuffer encode_read_copied(const page::PinnedRange& range,
                                                  const std::optional<FileFacts>& facts);

/// A ReadResponse that refers to the frames of `range` and keeps them pinned, and `hold`, until
/// gRPC has sent it or given up.
[[nodiscard]] grpc::ByteBuffer encode_read_pinned(page::PinnedRange range,
                                                  std::unique_ptr<PinLedger::Hold> hold,
                                                  const std::optional<FileFacts>& facts);

/// A PutRequest whose data is `data`, which it shares.
[[nodiscard]] grpc::ByteBuffer encode_put_data(const grpc::Slice& data);

/// The content of a message that carries bytes: views into `slices`, which keep them alive. Moves
/// only, as short slices hold their bytes themselves.
struct Payload {
  Payload() = default;
  Payload(Payload&&) = default;
  Payload& operator=(Payload&&) = default;
  ~Payload() = default;
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;

  std::vector<absl::Span<const std::byte>> pieces;
  uint64_t size_bytes = 0;
  uint32_t crc32c = 0;
  uint64_t file_size = 0;         ///< ReadResponse only
  std::vector<std::byte> digest;  ///< ReadResponse only
  std::vector<grpc::Slice> slices;

  /// Whether the CRC32C of the pieces is the one that came along.
  [[nodiscard]] bool intact() const;
};

/// Nothing when `message` is not a ReadResponse.
[[nodiscard]] std::optional<Payload> parse_read_response(const grpc::ByteBuffer& message);

/// The data of a PutRequest. Nothing when it is another step, or encoded in an unusual way: then
/// the generated class decides.
[[nodiscard]] std::optional<Payload> parse_put_data(const grpc::ByteBuffer& message);

/// Reads `bytes` as a message of a generated class. False when they are not one.
template <typename Message>
[[nodiscard]] bool parse_message(const grpc::ByteBuffer& bytes, Message& message) {
  grpc::ByteBuffer copy(bytes);  // shares the bytes; the reader wants it mutable
  return grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok();
}

/// A message of a generated class as bytes.
template <typename Message>
[[nodiscard]] grpc::ByteBuffer encode_message(const Message& message) {
  grpc::ByteBuffer bytes;
  bool own = false;
  // Fails only for a message over 2 GiB.
  static_cast<void>(grpc::SerializationTraits<Message>::Serialize(message, &bytes, &own));
  return bytes;
}

}  // namespace blobcache::net
