#include "net/rpc_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "blobcache.pb.h"
#include "net/impl/connection.h"
#include "net/impl/credentials.h"
#include "net/impl/grpc_library.h"
#include "net/impl/put_sender.h"
#include "net/impl/raw_call.h"
#include "net/impl/wire.h"

namespace blobcache::net {
namespace {

const char* const kReadMethod = "/blobcache.v1.Data/Read";
const char* const kPutMethod = "/blobcache.v1.Data/Put";

std::string target_of(const base::ListenAddress& endpoint) {
  if (endpoint.kind == base::ListenAddress::Kind::kUnix) return "unix:" + endpoint.path;
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(v6 ? "dns:///[{}]:{}" : "dns:///{}:{}"), endpoint.host,
                     endpoint.port);
}

bool uses_tls(const RpcClientOptions& options) {
  return !options.tls_ca.empty() && options.endpoint.kind == base::ListenAddress::Kind::kTcp;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(
    const RpcClientOptions& options) {
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("a TLS certificate and its key go together");
  }
  if (!uses_tls(options)) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  BLOBCACHE_ASSIGN_OR_RETURN(ssl.pem_root_certs, read_pem(options.tls_ca, "TLS CA"));
  if (!options.tls_certificate.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(ssl.pem_cert_chain,
                               read_pem(options.tls_certificate, "TLS certificate"));
    BLOBCACHE_ASSIGN_OR_RETURN(ssl.pem_private_key, read_pem(options.tls_key, "TLS key"));
  }
  return grpc::SslCredentials(ssl);
}

grpc::ChannelArguments arguments_of(const RpcClientOptions& options) {
  grpc::ChannelArguments arguments;
  const auto window = static_cast<int>(std::min<uint64_t>(options.stream_window_bytes, 1U << 30));
  arguments.SetMaxReceiveMessageSize(4 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, static_cast<int>(kMaxMessageData));
  arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, 128 << 10);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // A proxy for the web is not for us, and clients with different options must not share a
  // connection.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

class RpcClientImpl final : public RpcClient {
 public:
  RpcClientImpl(std::shared_ptr<grpc::Channel> channel, const RpcClientOptions& options)
      : channel_(std::move(channel)),
        address_(options.endpoint.to_string()),
        token_(options.token) {}

  absl::StatusOr<PutResult> put(std::string_view name, uint64_t size_hint,
                                const std::optional<page::ObjectKey>& expected,
                                const PutProducer& producer) override;
  absl::Status get(std::string_view path, uint64_t offset, uint64_t length, const GetBegin& begin,
                   const GetConsumer& consumer) override;

  std::shared_ptr<grpc::ChannelInterface> channel() const override { return channel_; }
  const std::string& token() const override { return token_; }
  absl::Status explain(const absl::Status& status) const override {
    return explain_end(status, *channel_, address_);
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::string address_;
  const std::string token_;
};

absl::StatusOr<PutResult> RpcClientImpl::put(std::string_view name, uint64_t size_hint,
                                             const std::optional<page::ObjectKey>& expected,
                                             const PutProducer& producer) {
  RawCall call(channel_, kPutMethod, token_, address_);
  BLOBCACHE_RETURN_IF_ERROR(PutSender(call, producer).send(name, size_hint, expected));
  grpc::ByteBuffer bytes;
  const bool answered = call.read(bytes);
  BLOBCACHE_RETURN_IF_ERROR(call.finish());
  v1::PutResponse response;
  PutResult result;
  if (!answered || !parse_message(bytes, response) ||
      response.digest().size() != result.digest.bytes.size()) {
    return absl::InternalError("the server's answer to the put makes no sense");
  }
  std::copy(response.digest().begin(), response.digest().end(), result.digest.bytes.begin());
  result.size_bytes = response.size();
  result.existed = response.existed();
  return result;
}

/// What a get still expects of its stream.
class GetProgress {
 public:
  GetProgress(uint64_t offset, uint64_t length) : offset_(offset), length_(length) {}

  /// The first message: what it says about the file.
  absl::StatusOr<RemoteFile> begin(const Payload& first) {
    RemoteFile file;
    if (first.digest.size() != file.digest.bytes.size() || offset_ > first.file_size) {
      return absl::InternalError("the server's answer to the get makes no sense");
    }
    file.size_bytes = first.file_size;
    for (size_t i = 0; i < first.digest.size(); ++i) {
      file.digest.bytes[i] = static_cast<uint8_t>(first.digest[i]);
    }
    const uint64_t rest = file.size_bytes - offset_;
    left_ = length_ == 0 ? rest : std::min(rest, length_);
    return file;
  }

  absl::Status take(const Payload& message) {
    if (message.size_bytes > left_)
      return absl::DataLossError("more bytes came than were promised");
    if (!message.intact()) {
      return base::error(absl::StatusCode::kDataLoss,
                         fmt::format("the data {} bytes before the end was damaged on the way: its "
                                     "CRC32C does not match",
                                     left_));
    }
    left_ -= message.size_bytes;
    return absl::OkStatus();
  }

  absl::Status end() const {
    if (left_ == 0) return absl::OkStatus();
    return base::error(absl::StatusCode::kDataLoss,
                       fmt::format("the stream ended {} bytes short", left_));
  }

 private:
  const uint64_t offset_;
  const uint64_t length_;
  uint64_t left_ = 0;
};

absl::Status RpcClientImpl::get(std::string_view path, uint64_t offset, uint64_t length,
                                const GetBegin& begin, const GetConsumer& consumer) {
  v1::ReadRequest request;
  request.set_path(path.data(), path.size());
  request.set_offset(offset);
  request.set_length(length);
  RawCall call(channel_, kReadMethod, token_, address_);
  GetProgress progress(offset, length);
  bool first = true;
  grpc::ByteBuffer bytes;
  if (call.write_last(encode_message(request))) {
    while (call.read(bytes)) {
      const std::optional<Payload> message = parse_read_response(bytes);
      if (!message.has_value()) return absl::DataLossError("a message that is no ReadResponse");
      if (std::exchange(first, false)) {
        BLOBCACHE_ASSIGN_OR_RETURN(const RemoteFile file, progress.begin(*message));
        if (begin) BLOBCACHE_RETURN_IF_ERROR(begin(file));
      }
      BLOBCACHE_RETURN_IF_ERROR(progress.take(*message));
      for (const absl::Span<const std::byte> piece : message->pieces) {
        BLOBCACHE_RETURN_IF_ERROR(consumer(piece));
      }
    }
  }
  BLOBCACHE_RETURN_IF_ERROR(call.finish());
  if (first) return absl::DataLossError("the stream ended before it began");
  return progress.end();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcClient>> RpcClient::connect(const RpcClientOptions& options) {
  keep_grpc_running();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                             credentials_of(options));
  if (options.endpoint.kind == base::ListenAddress::Kind::kUnix) {
    BLOBCACHE_RETURN_IF_ERROR(probe_unix(options.endpoint));
  }
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(target_of(options.endpoint), credentials, arguments_of(options));
  const TlsUse tls{uses_tls(options), !options.tls_certificate.empty()};
  BLOBCACHE_RETURN_IF_ERROR(wait_for_connection(channel, options.endpoint, tls));
  return std::make_unique<RpcClientImpl>(std::move(channel), options);
}

}  // namespace blobcache::net
