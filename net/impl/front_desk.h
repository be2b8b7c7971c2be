#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "net/impl/data_door.h"
#include "net/impl/handed_sockets.h"
#include "net/impl/hosted_server.h"
#include "net/impl/peer.h"
#include "net/rpc_server.h"

namespace blobcache::net {

/// Decides who a new connection is and hands it to the server for such callers.
///
/// gRPC does not tell a service who is at the other end of a unix socket, and the descriptor's
/// number, which it does tell, may belong to someone else a moment later. So there is one server
/// for each user that connects, made when that user first comes. The first kMaxUsers get one; those
/// who come later share a few, by what they may do, and what they create belongs to the daemon's
/// user.
///
/// Over TCP a caller is trusted as far as the credentials know him: where they ask for a token or a
/// client certificate he is an administrator, and else nobody, who may call Data alone.
///
/// Who may not administer and is not known by his uid owns no name, so he replaces none: what he
/// makes belongs to the daemon's user, and so may other names.
///
/// One thread at a time. `door` and `others` must outlive it.
class FrontDesk {
 public:
  static constexpr size_t kMaxUsers = 32;
  static constexpr std::chrono::milliseconds kLastWords{500};

  struct Options {
    TransportOptions transport;
    std::optional<gid_t> admin_group;
    /// For TCP; absent when there is no TCP listener.
    std::shared_ptr<grpc::ServerCredentials> tcp_credentials;
    bool tcp_is_guarded = false;  ///< they let in only who shows a token or a certificate
  };

  /// Starts the servers for our own user and for TCP; fails if gRPC cannot.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<FrontDesk>> open(DataDoor& door,
                                                                       RpcServices others,
                                                                       const Options& options);

  /// A connection is closed when the kernel or gRPC has no more room for it; the error says why.
  [[nodiscard]] absl::Status take_unix(base::UniqueFd connection);
  void take_tcp(base::UniqueFd connection);

  /// Lets calls go on until `deadline`, then cancels them, and kLastWords later closes the
  /// connections of clients that do not take what is left for them. Returns when all have ended.
  void stop(std::chrono::system_clock::time_point deadline);

 private:
  using UserKey = std::tuple<uid_t, gid_t, bool>;

  FrontDesk(DataDoor& door, RpcServices others, const Options& options);

  [[nodiscard]] absl::StatusOr<HostedServer*> server_for(const Peer& peer);
  /// A caller whose files belong to our own user: an administrator, or a stranger.
  [[nodiscard]] HostedServer::Caller as_ourselves(bool admin, const char* why_denied) const;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<HostedServer>> make_server(
      const HostedServer::Caller& caller,
      const std::shared_ptr<grpc::ServerCredentials>& credentials) const;

  DataDoor& door_;
  const RpcServices others_;
  const Options options_;
  const uid_t uid_;  ///< our own
  const gid_t gid_;
  std::map<UserKey, std::unique_ptr<HostedServer>> users_;
  /// By whether they may administer, and are owners.
  std::map<std::pair<bool, bool>, std::unique_ptr<HostedServer>> shared_;
  std::unique_ptr<HostedServer> tcp_;
  HandedSockets sockets_;
};

}  // namespace blobcache::net
