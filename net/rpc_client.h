#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/listen_address.h"
#include "store/page/object_key.h"

namespace grpc {
class ChannelInterface;
}  // namespace grpc

namespace blobcache::net {

struct RpcClientOptions {
  base::ListenAddress endpoint;
  uint64_t stream_window_bytes = uint64_t{4} << 20;
  std::string tls_ca;  ///< PEM file; TLS when set
  std::string tls_certificate;
  std::string tls_key;
  std::string token;  ///< bearer token, sent when not empty
};

/// What Data.Stat answers, and Data.Read with its first message. Value type.
struct RemoteFile {
  uint64_t size_bytes = 0;
  page::ObjectKey digest;
};

struct PutResult {
  page::ObjectKey digest;
  uint64_t size_bytes = 0;
  bool existed = false;
};

/// Hands out the next bytes of a put: fills `buffer`, returns how many (0: the end) or an error.
using PutProducer = std::function<absl::StatusOr<size_t>(absl::Span<std::byte> buffer)>;
/// Learns what a get is about to bring, before its first byte. An error ends the read with it.
using GetBegin = std::function<absl::Status(const RemoteFile& file)>;
/// Takes the next bytes of a get. An error ends the read with it.
using GetConsumer = std::function<absl::Status(absl::Span<const std::byte> bytes)>;

/// A client of one blobcached: the Data service, blocking. The status codes are the server's;
/// UNAVAILABLE with "cannot reach ADDRESS: why" when there is none, and with "the connection to the
/// daemon at ADDRESS was lost" when it went during a call.
///
/// Thread-safe.
class RpcClient {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<RpcClient>> connect(
      const RpcClientOptions& options);
  virtual ~RpcClient() = default;

  /// Streams a blob; all-zero stretches of 64 KiB and more travel as counts. `size_hint`: bytes of
  /// data that will come, holes not counted (0: unknown). Memory: under 8 MiB.
  [[nodiscard]] virtual absl::StatusOr<PutResult> put(
      std::string_view name, uint64_t size_hint, const std::optional<page::ObjectKey>& expected,
      const PutProducer& producer) = 0;

  /// Reads [offset, offset + length) of a path (length 0: to the end), checking each message's
  /// CRC32C. `begin`, when set, learns the file's size and digest first.
  [[nodiscard]] virtual absl::Status get(std::string_view path, uint64_t offset, uint64_t length,
                                         const GetBegin& begin, const GetConsumer& consumer) = 0;

  /// The channel, for the generated stubs of other services.
  [[nodiscard]] virtual std::shared_ptr<grpc::ChannelInterface> channel() const = 0;
  /// The bearer token to send with calls made over channel(); perhaps empty.
  [[nodiscard]] virtual const std::string& token() const = 0;
  /// The status of a call made over channel(), which has just ended: a lost connection in words for
  /// people, as put() and get() have it, and all else as it is.
  [[nodiscard]] virtual absl::Status explain(const absl::Status& status) const = 0;
};

}  // namespace blobcache::net
