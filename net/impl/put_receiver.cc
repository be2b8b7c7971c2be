#include "net/impl/put_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "blobcache.pb.h"
#include "net/impl/wire.h"
#include "store/page/geometry.h"

namespace blobcache::net {
namespace {

absl::Status invalid(std::string_view why) {
  return base::error(absl::StatusCode::kInvalidArgument, why);
}

/// The bytes of a hole.
absl::Span<const std::byte> zero_bytes() {
  static constexpr std::array<std::byte, size_t{64} << 10> kZeros{};
  return kZeros;
}

}  // namespace

absl::Status PutReceiver::take(const grpc::ByteBuffer& message,
                               const std::function<bool()>& cancelled) {
  if (finished_) return invalid("a message after finish");
  if (std::optional<Payload> data = parse_put_data(message); data.has_value()) {
    return take_data(*data);
  }
  v1::PutRequest request;
  if (!parse_message(message, request)) return invalid("not a PutRequest");
  switch (request.step_case()) {
    case v1::PutRequest::kHeader:
      return take_header(request.header());
    case v1::PutRequest::kData:
      return take_unusual_data(request.data());
    case v1::PutRequest::kZeros:
      return take_zeros(request.zeros(), cancelled);
    case v1::PutRequest::kFinish:
      return take_finish(request.finish());
    case v1::PutRequest::STEP_NOT_SET:
      break;
  }
  return invalid("a put message with neither header, data, zeros nor finish");
}

absl::Status PutReceiver::take_header(const v1::PutHeader& header) {
  if (writer_ != nullptr) return invalid("a second header");
  const std::string& digest = header.expected_digest();
  if (!digest.empty()) {
    page::ObjectKey key;
    if (digest.size() != key.bytes.size()) {
      return invalid(fmt::format("expected_digest has {} bytes; a SHA-256 has {}", digest.size(),
                                 key.bytes.size()));
    }
    std::copy(digest.begin(), digest.end(), key.bytes.begin());
    expected_ = key;
  }
  if (header.size_hint() > page::kMaxObjectSize)
    return invalid("size_hint is larger than any blob");
  BLOBCACHE_ASSIGN_OR_RETURN(writer_, names_.put(header.name(), creator_, header.size_hint()));
  return absl::OkStatus();
}

absl::Status PutReceiver::take_data(const Payload& data) {
  if (writer_ == nullptr) return invalid("the first message of a put must be a header");
  if (data.size_bytes > kMaxMessageData) {
    return invalid(fmt::format("{} bytes of data in a message; at most {} are allowed",
                               data.size_bytes, kMaxMessageData));
  }
  if (!data.intact()) {
    return base::error(absl::StatusCode::kDataLoss,
                       fmt::format("the data at offset {} was damaged on the way: its CRC32C does "
                                   "not match",
                                   received_bytes_));
  }
  for (const absl::Span<const std::byte> piece : data.pieces) {
    BLOBCACHE_RETURN_IF_ERROR(append(piece));
  }
  return absl::OkStatus();
}

absl::Status PutReceiver::take_unusual_data(const v1::PutData& data) {
  Payload payload;
  payload.size_bytes = data.data().size();
  payload.crc32c = data.crc32c();
  payload.pieces.push_back(
      {reinterpret_cast<const std::byte*>(data.data().data()), data.data().size()});
  return take_data(payload);
}

absl::Status PutReceiver::take_zeros(uint64_t count, const std::function<bool()>& cancelled) {
  if (writer_ == nullptr) return invalid("the first message of a put must be a header");
  if (count > kMaxZeros) {
    return invalid(fmt::format("{} zeros in a message; at most {} are allowed", count, kMaxZeros));
  }
  while (count > 0) {
    if (cancelled()) return absl::CancelledError("cancelled by the caller");
    const uint64_t step = std::min<uint64_t>(count, zero_bytes().size());
    BLOBCACHE_RETURN_IF_ERROR(append(zero_bytes().first(step)));
    count -= step;
  }
  return absl::OkStatus();
}

absl::Status PutReceiver::append(absl::Span<const std::byte> bytes) {
  if (bytes.size() > page::kMaxObjectSize - received_bytes_) {
    return invalid("a blob of more than 1 PiB");
  }
  received_bytes_ += bytes.size();
  return writer_->append(bytes);
}

absl::Status PutReceiver::take_finish(const v1::PutFinish& finish) {
  if (writer_ == nullptr) return invalid("the first message of a put must be a header");
  if (finish.size() != received_bytes_) {
    return invalid(
        fmt::format("finish says {} bytes, but {} came in", finish.size(), received_bytes_));
  }
  finished_ = true;
  return absl::OkStatus();
}

absl::StatusOr<tree::CommittedBlob> PutReceiver::commit() {
  if (!finished_) {
    return invalid(
        fmt::format("the put was cut short after {} bytes: no finish came", received_bytes_));
  }
  return writer_->commit(expected_.has_value() ? &*expected_ : nullptr);
}

}  // namespace blobcache::net
