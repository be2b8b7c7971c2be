#include "net/impl/put_sender.h"

#include <algorithm>

#include "base/status.h"
#include "blobcache.pb.h"
#include "net/impl/put_receiver.h"
#include "net/impl/wire.h"
#include "store/page/checksum.h"

namespace blobcache::net {
namespace {

absl::Span<const std::byte> bytes_of(const grpc::Slice& buffer, size_t begin, size_t end) {
  return {reinterpret_cast<const std::byte*>(buffer.begin()) + begin, end - begin};
}

}  // namespace

absl::Status PutSender::send(std::string_view name, uint64_t size_hint,
                             const std::optional<page::ObjectKey>& expected) {
  v1::PutRequest header;
  header.mutable_header()->set_name(name.data(), name.size());
  header.mutable_header()->set_size_hint(size_hint);
  if (expected.has_value()) {
    header.mutable_header()->set_expected_digest(expected->bytes.data(), expected->bytes.size());
  }
  BLOBCACHE_RETURN_IF_ERROR(write(encode_message(header)));
  for (;;) {
    // A buffer of its own for each message: the one before may still be on its way.
    const grpc::Slice buffer(kMaxMessageData);
    BLOBCACHE_ASSIGN_OR_RETURN(const size_t size, fill(buffer));
    BLOBCACHE_RETURN_IF_ERROR(send_buffer(buffer, size));
    if (size < kMaxMessageData) break;
  }
  BLOBCACHE_RETURN_IF_ERROR(send_zeros());
  v1::PutRequest finish;
  finish.mutable_finish()->set_size(total_bytes_);
  return call_.write_last(encode_message(finish)) ? absl::OkStatus() : early_end();
}

absl::StatusOr<size_t> PutSender::fill(const grpc::Slice& buffer) {
  // Nobody else has seen the slice yet, so its bytes may still be written.
  auto* const begin = reinterpret_cast<std::byte*>(const_cast<uint8_t*>(buffer.begin()));
  size_t size = 0;
  while (size < buffer.size()) {
    BLOBCACHE_ASSIGN_OR_RETURN(const size_t got, producer_({begin + size, buffer.size() - size}));
    if (got == 0) break;
    size += got;
  }
  return size;
}

absl::Status PutSender::send_buffer(const grpc::Slice& buffer, size_t size) {
  size_t data_begin = 0;  // what lies between it and `at` is data
  for (size_t at = 0; at < size; at += kZeroChunk) {
    const size_t end = std::min(at + kZeroChunk, size);
    if (!page::is_zero(bytes_of(buffer, at, end))) {
      BLOBCACHE_RETURN_IF_ERROR(send_zeros());
      continue;
    }
    BLOBCACHE_RETURN_IF_ERROR(send_data(buffer, data_begin, at));
    data_begin = end;
    zeros_ += end - at;
  }
  if (data_begin < size) BLOBCACHE_RETURN_IF_ERROR(send_data(buffer, data_begin, size));
  total_bytes_ += size;
  return absl::OkStatus();
}

absl::Status PutSender::send_data(const grpc::Slice& buffer, size_t begin, size_t end) {
  if (begin == end) return absl::OkStatus();
  grpc_slice whole = buffer.c_slice();
  const grpc::Slice part(grpc_slice_sub(whole, begin, end), grpc::Slice::STEAL_REF);
  grpc_slice_unref(whole);
  return write(encode_put_data(part));
}

absl::Status PutSender::send_zeros() {
  while (zeros_ > 0) {
    v1::PutRequest request;
    request.set_zeros(std::min(zeros_, PutReceiver::kMaxZeros));
    zeros_ -= request.zeros();
    BLOBCACHE_RETURN_IF_ERROR(write(encode_message(request)));
  }
  return absl::OkStatus();
}

absl::Status PutSender::write(const grpc::ByteBuffer& message) {
  return call_.write(message) ? absl::OkStatus() : early_end();
}

absl::Status PutSender::early_end() {
  const absl::Status status = call_.finish();
  return status.ok() ? absl::InternalError("the server ended the put early") : status;
}

}  // namespace blobcache::net
