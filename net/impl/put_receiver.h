#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/impl/wire.h"
#include "store/page/object_key.h"
#include "store/tree/blob_writer.h"
#include "store/tree/namespace.h"

namespace blobcache::v1 {
class PutHeader;
class PutData;
class PutFinish;
}  // namespace blobcache::v1

namespace blobcache::net {

/// The protocol of Data.Put, apart from how messages arrive: a header, data and zeros, a finish.
/// Everything is checked as it comes. Until commit() has succeeded nothing is visible, and
/// destruction removes what was written.
///
/// One thread at a time; take(), commit() and the destructor block on the disk.
class PutReceiver {
 public:
  static constexpr uint64_t kMaxZeros = uint64_t{1} << 30;

  PutReceiver(tree::Namespace& names, const tree::Creator& creator)
      : names_(names), creator_(creator) {}

  /// The next message. `cancelled` is asked now and then during long work. After an error only
  /// destruction is allowed.
  [[nodiscard]] absl::Status take(const grpc::ByteBuffer& message,
                                  const std::function<bool()>& cancelled);

  /// The sender has ended its stream: makes the blob. INVALID_ARGUMENT when the stream was cut
  /// short.
  [[nodiscard]] absl::StatusOr<tree::CommittedBlob> commit();

 private:
  [[nodiscard]] absl::Status take_header(const v1::PutHeader& header);
  [[nodiscard]] absl::Status take_data(const Payload& data);
  [[nodiscard]] absl::Status take_unusual_data(const v1::PutData& data);
  [[nodiscard]] absl::Status take_zeros(uint64_t count, const std::function<bool()>& cancelled);
  [[nodiscard]] absl::Status take_finish(const v1::PutFinish& finish);
  [[nodiscard]] absl::Status append(absl::Span<const std::byte> bytes);

  tree::Namespace& names_;
  const tree::Creator creator_;
  std::unique_ptr<tree::BlobWriter> writer_;  ///< from the header on
  std::optional<page::ObjectKey> expected_;
  uint64_t received_bytes_ = 0;
  bool finished_ = false;
};

}  // namespace blobcache::net
