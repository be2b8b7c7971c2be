#include "net/impl/front_desk.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include "base/status.h"

namespace blobcache::net {
namespace {

constexpr const char* kNeedsRights =
    "needs root, the user that blobcached runs as, or the configured admin group";
constexpr const char* kNeedsGuard =
    "is refused on a TCP listener that asks for neither a token nor a client certificate; use the "
    "unix socket, or configure grpc.token_file or grpc.tls_client_ca";

}  // namespace

FrontDesk::FrontDesk(DataDoor& door, RpcServices others, const Options& options)
    : door_(door),
      others_(std::move(others)),
      options_(options),
      uid_(geteuid()),
      gid_(getegid()) {}

absl::StatusOr<std::unique_ptr<FrontDesk>> FrontDesk::open(DataDoor& door, RpcServices others,
                                                           const Options& options) {
  std::unique_ptr<FrontDesk> desk(new FrontDesk(door, std::move(others), options));
  BLOBCACHE_RETURN_IF_ERROR(desk->server_for(Peer{desk->uid_, desk->gid_, {}}).status());
  if (options.tcp_credentials != nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(
        desk->tcp_, desk->make_server(desk->as_ourselves(options.tcp_is_guarded, kNeedsGuard),
                                      options.tcp_credentials));
  }
  return desk;
}

absl::StatusOr<std::unique_ptr<HostedServer>> FrontDesk::make_server(
    const HostedServer::Caller& caller,
    const std::shared_ptr<grpc::ServerCredentials>& credentials) const {
  return HostedServer::create(door_, caller, others_, options_.transport, credentials);
}

HostedServer::Caller FrontDesk::as_ourselves(bool admin, const char* why_denied) const {
  HostedServer::Caller caller;
  caller.creator = {uid_, gid_, admin ? tree::MayReplace::kAll : tree::MayReplace::kNone};
  caller.admin = admin;
  caller.why_denied = why_denied;
  return caller;
}

absl::StatusOr<HostedServer*> FrontDesk::server_for(const Peer& peer) {
  const bool admin = may_administer(peer, uid_, options_.admin_group);
  const bool owner = is_owner(peer, uid_);
  const UserKey key{peer.uid, peer.gid, admin};
  const bool known = users_.contains(key);
  const bool own = known || users_.size() < kMaxUsers;
  std::unique_ptr<HostedServer>& server = own ? users_[key] : shared_[{admin, owner}];
  if (server == nullptr) {
    HostedServer::Caller caller = as_ourselves(admin, kNeedsRights);
    caller.owner = owner;
    if (own) {
      const auto replace = admin ? tree::MayReplace::kAll : tree::MayReplace::kOwn;
      caller.creator = {peer.uid, peer.gid, replace};
    }
    absl::StatusOr<std::unique_ptr<HostedServer>> made =
        make_server(caller, grpc::InsecureServerCredentials());
    if (!made.ok()) {
      if (own) users_.erase(key);
      return made.status();
    }
    server = *std::move(made);
  }
  return server.get();
}

absl::Status FrontDesk::take_unix(base::UniqueFd connection) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Peer peer, read_peer(connection.get()));
  BLOBCACHE_ASSIGN_OR_RETURN(HostedServer* const server, server_for(peer));
  sockets_.note(connection.get());
  server->take(std::move(connection));
  return absl::OkStatus();
}

void FrontDesk::take_tcp(base::UniqueFd connection) {
  const int on = 1;
  // Best effort: without it answers come later, not wrong.
  static_cast<void>(setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
  sockets_.note(connection.get());
  tcp_->take(std::move(connection));
}

void FrontDesk::stop(std::chrono::system_clock::time_point deadline) {
  std::vector<HostedServer*> servers;
  for (const auto& [key, server] : users_) servers.push_back(server.get());
  for (const auto& [rights, server] : shared_) servers.push_back(server.get());
  if (tcp_ != nullptr) servers.push_back(tcp_.get());
  // Side by side: each waits for its own calls.
  std::vector<std::future<void>> stops;
  for (HostedServer* server : servers) {
    if (server == nullptr) continue;
    stops.push_back(std::async(std::launch::async, [=] { server->stop(deadline); }));
  }
  const bool all_ended = std::all_of(stops.begin(), stops.end(), [=](std::future<void>& stop) {
    return stop.wait_until(deadline + kLastWords) == std::future_status::ready;
  });
  if (!all_ended) {
    spdlog::warn("grpc: closed {} connections whose clients did not take what they had asked for",
                 sockets_.shut_down());
  }
  for (std::future<void>& stop : stops) stop.get();
}

}  // namespace blobcache::net
