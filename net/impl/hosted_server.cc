#include "net/impl/hosted_server.h"

#include <grpcpp/resource_quota.h>

#include <algorithm>

#include "absl/status/status.h"
#include "net/impl/wire.h"

namespace blobcache::net {
namespace {

constexpr int kMaxReceiveBytes = 4 << 20;

/// A call that is answered before it has begun.
class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { const std::unique_ptr<Refusal> self(this); }
};

int clamp_to_int(uint64_t value) {
  return static_cast<int>(std::min<uint64_t>(value, uint64_t{1} << 30));
}

void configure(grpc::ServerBuilder& builder, const TransportOptions& transport) {
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder.SetMaxSendMessageSize(-1);
  // A service that others own may be synchronous; its threads are bounded.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  grpc::ResourceQuota quota("blobcache");
  quota.SetMaxThreads(32);
  builder.SetResourceQuota(quota);

  // gRPC knows one window, a stream's, and makes the connection's from what its streams announce;
  // so the connection's is an upper bound for it. Without the probe, windows stay as configured.
  const uint64_t window =
      std::min(transport.stream_window_bytes, transport.connection_window_bytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, clamp_to_int(window));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, clamp_to_int(transport.max_streams));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, static_cast<int>(kMaxMessageData));
  builder.AddChannelArgument(GRPC_ARG_TCP_READ_CHUNK_SIZE, 128 << 10);

  // A connection that never speaks HTTP/2 is closed after 10 s; one whose other end has gone, after
  // 80 s.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
}

}  // namespace

grpc::ServerGenericBidiReactor* DenyingService::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  const grpc::Status status(grpc::StatusCode::PERMISSION_DENIED, context->method() + " " + why_);
  return std::make_unique<Refusal>(status).release();
}

absl::StatusOr<std::unique_ptr<HostedServer>> HostedServer::create(
    DataDoor& door, const Caller& caller, const RpcServices& others,
    const TransportOptions& transport,
    const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  std::unique_ptr<HostedServer> hosted(new HostedServer(door, caller));
  grpc::ServerBuilder builder;
  configure(builder, transport);
  builder.RegisterService(&hosted->data_);
  if (caller.admin) {
    for (grpc::Service* service : caller.owner ? others.for_owners : others.for_admins) {
      builder.RegisterService(service);
    }
  } else {
    builder.RegisterCallbackGenericService(&hosted->denying_);
  }
  hosted->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  hosted->server_ = builder.BuildAndStart();
  if (hosted->server_ == nullptr) return absl::InternalError("gRPC cannot start a server");
  return hosted;
}

void HostedServer::take(base::UniqueFd connection) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.fd = connection.release();
  acceptor_->HandleNewConnection(&parameters);
}

}  // namespace blobcache::net
