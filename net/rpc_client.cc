#include "net/rpc_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "blobcache.grpc.pb.h"
#include "net/impl/credentials.h"
#include "net/impl/grpc_library.h"
#include "net/impl/put_sender.h"
#include "net/impl/raw_call.h"
#include "net/impl/wire.h"

namespace blobcache::net {
namespace {

constexpr std::chrono::seconds kConnectTimeout{5};
const char* const kReadMethod = "/blobcache.v1.Data/Read";
const char* const kPutMethod = "/blobcache.v1.Data/Put";

absl::Status unreachable(const base::ListenAddress& endpoint, std::string_view why) {
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("cannot reach {}: {}", endpoint.to_string(), why));
}

/// gRPC says of a unix socket only that it failed; connect() says why.
absl::Status probe_unix(const base::ListenAddress& endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (endpoint.path.size() >= sizeof(address.sun_path))
    return unreachable(endpoint, "the path is too long");
  endpoint.path.copy(address.sun_path, endpoint.path.size());
  const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::errno_error(errno, "socket");
  // A full backlog (EAGAIN) is a server that is busy, which waiting may help.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno != EAGAIN) {
    const absl::Status why =
        base::errno_error(errno, fmt::format("cannot reach {}", endpoint.to_string()));
    return base::error(absl::StatusCode::kUnavailable, base::message(why));
  }
  return absl::OkStatus();
}

std::string target_of(const base::ListenAddress& endpoint) {
  if (endpoint.kind == base::ListenAddress::Kind::kUnix) return "unix:" + endpoint.path;
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(v6 ? "dns:///[{}]:{}" : "dns:///{}:{}"), endpoint.host,
                     endpoint.port);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(
    const RpcClientOptions& options) {
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("a TLS certificate and its key go together");
  }
  const bool tls =
      !options.tls_ca.empty() && options.endpoint.kind == base::ListenAddress::Kind::kTcp;
  if (!tls) return grpc::InsecureChannelCredentials();
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

/// Why a channel does not connect, by the error of a call over it.
std::string reason_of(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  v1::StatResponse response;
  const grpc::Status status =
      v1::Data::NewStub(channel)->Stat(&context, v1::StatRequest(), &response);
  std::string text = status.error_message();
  constexpr std::string_view kPrefix = "last error: ";
  if (const size_t at = text.find(kPrefix); at != std::string::npos) {
    text.erase(0, at + kPrefix.size());
  }
  return text;
}

absl::Status wait_for_connection(const std::shared_ptr<grpc::Channel>& channel,
                                 const base::ListenAddress& endpoint) {
  const auto deadline = std::chrono::system_clock::now() + kConnectTimeout;
  for (;;) {
    const grpc_connectivity_state state = channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return unreachable(endpoint, reason_of(channel));
    }
    if (!channel->WaitForStateChange(state, deadline)) {
      return unreachable(endpoint, fmt::format("no answer for {} s", kConnectTimeout.count()));
    }
  }
}

class RpcClientImpl final : public RpcClient {
 public:
  RpcClientImpl(std::shared_ptr<grpc::Channel> channel, std::string token)
      : channel_(std::move(channel)), token_(std::move(token)) {}

  absl::StatusOr<PutResult> put(std::string_view name, uint64_t size_hint,
                                const std::optional<page::ObjectKey>& expected,
                                const PutProducer& producer) override;
  absl::Status get(std::string_view path, uint64_t offset, uint64_t length,
                   const std::function<void(const RemoteFile&)>& begin,
                   const GetConsumer& consumer) override;

  std::shared_ptr<grpc::ChannelInterface> channel() const override { return channel_; }
  const std::string& token() const override { return token_; }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::string token_;
};

absl::StatusOr<PutResult> RpcClientImpl::put(std::string_view name, uint64_t size_hint,
                                             const std::optional<page::ObjectKey>& expected,
                                             const PutProducer& producer) {
  RawCall call(channel_, kPutMethod, token_);
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
                                const std::function<void(const RemoteFile&)>& begin,
                                const GetConsumer& consumer) {
  v1::ReadRequest request;
  request.set_path(path.data(), path.size());
  request.set_offset(offset);
  request.set_length(length);
  RawCall call(channel_, kReadMethod, token_);
  GetProgress progress(offset, length);
  bool first = true;
  grpc::ByteBuffer bytes;
  if (call.write_last(encode_message(request))) {
    while (call.read(bytes)) {
      const std::optional<Payload> message = parse_read_response(bytes);
      if (!message.has_value()) return absl::DataLossError("a message that is no ReadResponse");
      if (std::exchange(first, false)) {
        BLOBCACHE_ASSIGN_OR_RETURN(const RemoteFile file, progress.begin(*message));
        if (begin) begin(file);
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
  BLOBCACHE_RETURN_IF_ERROR(wait_for_connection(channel, options.endpoint));
  return std::make_unique<RpcClientImpl>(std::move(channel), options.token);
}

}  // namespace blobcache::net
