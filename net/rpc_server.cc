#include "net/rpc_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "net/impl/acceptor.h"
#include "net/impl/credentials.h"
#include "net/impl/data_door.h"
#include "net/impl/front_desk.h"
#include "net/impl/grpc_library.h"

namespace blobcache::net {
namespace {

constexpr std::chrono::milliseconds kGrace{2000};
/// When another process goes on with the sockets: others wait meanwhile, and who is cut off can
/// come again at once.
constexpr std::chrono::milliseconds kGraceBetween{500};
/// What gRPC may take to let go of the last bytes after every call has ended.
constexpr absl::Duration kLastPins = absl::Seconds(10);

bool has_tcp(const RpcServerOptions& options) {
  return std::any_of(options.listen.begin(), options.listen.end(),
                     [](const base::ListenAddress& address) {
                       return address.kind == base::ListenAddress::Kind::kTcp;
                     });
}

absl::StatusOr<TcpSecurity> load_security(const RpcServerOptions& options) {
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("tls_certificate and tls_key go together");
  }
  if (!options.tls_client_ca.empty() && options.tls_certificate.empty()) {
    return absl::InvalidArgumentError("tls_client_ca needs tls_certificate and tls_key");
  }
  TcpSecurity security;
  if (!options.tls_certificate.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(security.certificate,
                               read_pem(options.tls_certificate, "TLS certificate"));
    BLOBCACHE_ASSIGN_OR_RETURN(security.key, read_pem(options.tls_key, "TLS key"));
  }
  if (!options.tls_client_ca.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(security.client_ca,
                               read_pem(options.tls_client_ca, "TLS client CA"));
  }
  if (!options.token_file.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(security.token, read_token(options.token_file));
  }
  return security;
}

class RpcServerImpl final : public RpcServer {
 public:
  RpcServerImpl(const RpcServerOptions& options, tree::Namespace& names)
      : door_(names, options.max_streams, options.pinned_bytes) {}
  ~RpcServerImpl() override { stop(); }

  absl::Status open(const RpcServerOptions& options, const RpcServices& services);
  void stop() override ABSL_LOCKS_EXCLUDED(stop_mutex_);

  absl::StatusOr<std::vector<base::UniqueFd>> keep_listening() override {
    grace_.store(kGraceBetween);
    return acceptor_->keep_listening();
  }
  std::vector<base::ListenAddress> addresses() const override { return addresses_; }
  base::DoorStats stats() const override { return door_.stats(); }

 private:
  void accept(base::ListenAddress::Kind kind, base::UniqueFd connection);

  DataDoor door_;
  std::unique_ptr<FrontDesk> desk_;  ///< used by the acceptor's thread, and after it has ended
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<base::ListenAddress> addresses_;
  std::atomic<std::chrono::milliseconds> grace_{kGrace};
  absl::Mutex stop_mutex_;
  bool stopped_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

absl::Status RpcServerImpl::open(const RpcServerOptions& options, const RpcServices& services) {
  FrontDesk::Options desk;
  desk.transport = {options.stream_window_bytes, options.connection_window_bytes,
                    options.max_streams};
  desk.admin_group = options.admin_group;
  if (has_tcp(options)) {
    BLOBCACHE_ASSIGN_OR_RETURN(const TcpSecurity security, load_security(options));
    BLOBCACHE_ASSIGN_OR_RETURN(desk.tcp_credentials, tcp_credentials(security));
    desk.tcp_is_guarded = !options.token_file.empty() || !options.tls_client_ca.empty();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(acceptor_, Acceptor::listen(options.listen, options.listen_on));
  BLOBCACHE_ASSIGN_OR_RETURN(desk_, FrontDesk::open(door_, services, desk));
  addresses_ = acceptor_->addresses();
  acceptor_->start([this](base::ListenAddress::Kind kind,
                          base::UniqueFd connection) { accept(kind, std::move(connection)); },
                   [this] { door_.puts().expire(absl::Now()); });
  return absl::OkStatus();
}

void RpcServerImpl::accept(base::ListenAddress::Kind kind, base::UniqueFd connection) {
  if (kind == base::ListenAddress::Kind::kTcp) {
    desk_->take_tcp(std::move(connection));
    return;
  }
  if (absl::Status status = desk_->take_unix(std::move(connection)); !status.ok()) {
    spdlog::warn("grpc: a connection was closed: {}", base::message(status));
  }
}

void RpcServerImpl::stop() {
  absl::MutexLock lock(&stop_mutex_);
  if (std::exchange(stopped_, true)) return;
  door_.refuse_new();
  if (acceptor_ != nullptr) acceptor_->stop();
  if (desk_ != nullptr) desk_->stop(std::chrono::system_clock::now() + grace_.load());
  if (!door_.pins().wait_until_empty(kLastPins)) {
    spdlog::error("grpc: {} bytes of answers are still held after every call has ended",
                  door_.pins().held_bytes());
  }
}

}  // namespace

absl::Status RpcServer::check_files(const RpcServerOptions& options) {
  return has_tcp(options) ? load_security(options).status() : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::start(const RpcServerOptions& options,
                                                            tree::Namespace& names,
                                                            const RpcServices& services) {
  keep_grpc_running();
  auto server = std::make_unique<RpcServerImpl>(options, names);
  BLOBCACHE_RETURN_IF_ERROR(server->open(options, services));
  return server;
}

}  // namespace blobcache::net
