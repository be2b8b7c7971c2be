#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/impl/raw_call.h"
#include "net/rpc_client.h"
#include "store/page/geometry.h"
#include "store/page/object_key.h"

namespace blobcache::net {

/// The sending side of Data.Put: takes what a producer hands out in buffers of one message, sends
/// stretches of zeros as counts and the rest without copying it again. One buffer is being filled
/// and one is on its way.
///
/// One thread; for one put.
class PutSender {
 public:
  /// Zeros are looked for at this granularity, on multiples of it.
  static constexpr size_t kZeroChunk = page::kPageSize;

  PutSender(RawCall& call, const PutProducer& producer) : call_(call), producer_(producer) {}

  /// Sends header, content and finish. An error of the producer ends the put with it; an error of
  /// the server is returned as it came. When OK, the server's answer can be read from the call.
  [[nodiscard]] absl::Status send(std::string_view name, uint64_t size_hint,
                                  const std::optional<page::ObjectKey>& expected);

 private:
  /// Fills a buffer until it is full or the producer has no more; returns the bytes.
  [[nodiscard]] absl::StatusOr<size_t> fill(const grpc::Slice& buffer);
  [[nodiscard]] absl::Status send_buffer(const grpc::Slice& buffer, size_t size);
  [[nodiscard]] absl::Status send_data(const grpc::Slice& buffer, size_t begin, size_t end);
  [[nodiscard]] absl::Status send_zeros();
  [[nodiscard]] absl::Status write(const grpc::ByteBuffer& message);
  /// Why the server did not wait for the end.
  [[nodiscard]] absl::Status early_end();

  RawCall& call_;
  const PutProducer& producer_;
  uint64_t zeros_ = 0;  ///< seen and not sent
  uint64_t total_bytes_ = 0;
};

}  // namespace blobcache::net
