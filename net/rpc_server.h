#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/door_stats.h"
#include "base/listen_address.h"
#include "base/unique_fd.h"
#include "store/tree/namespace.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace blobcache::net {

/// Services that others own, which a server hosts beside Data, by who may call them. Value type.
struct RpcServices {
  std::vector<grpc::Service*> for_admins;
  /// What owners get in the place of those: root and the daemon's own user, on a unix socket.
  std::vector<grpc::Service*> for_owners;
};

struct RpcServerOptions {
  std::vector<base::ListenAddress> listen;
  base::ListenFunction listen_on = &base::listen_on;
  uint64_t stream_window_bytes = uint64_t{4} << 20;
  uint64_t connection_window_bytes = uint64_t{32}
                                     << 20;  ///< bounds the stream's; gRPC derives its own
  uint32_t max_streams = 1024;
  std::string tls_certificate;  ///< PEM files; certificate and key go together
  std::string tls_key;
  std::string tls_client_ca;  ///< when set, clients must show a certificate that it signed
  std::string
      token_file;  ///< when set, TCP callers must send "authorization: Bearer <its content>"
  std::optional<gid_t>
      admin_group;  ///< may call Admin over the unix socket, beside root and our own user
  /// How much of the memory tier answers on their way may hold pinned (they are sent from its
  /// frames); beyond it they are copied. Should stay under an eighth of the tier's budget.
  uint64_t pinned_bytes = uint64_t{4} << 20;
};

/// The gRPC door: the Data service, and services that others own (Admin), on unix sockets and TCP.
///
/// Who may call: on a unix socket the peer is known by SO_PEERCRED; root and the daemon's own user
/// may do all, members of admin_group may do all, others who may open the socket may call Data. On
/// TCP a right token or a client certificate may do all (where both are configured, both are
/// needed); without either configured everybody who reaches the listener may call Data, and Admin
/// is PERMISSION_DENIED: on loopback that is every user and every program of this machine.
///
/// Who may call Data may read every file. What a put over a unix socket names belongs to the user
/// who called (to the daemon's user for the 33rd and later user of a run, and over TCP). Who may
/// administer replaces any name, and a user of the unix socket names whose files are his own; the
/// 33rd and later user, and who comes over unguarded TCP, makes new names only. Data.Put: at most
/// 64 at once; more wait up to 30 s, then RESOURCE_EXHAUSTED. At most max_streams calls to Data at
/// once; more are RESOURCE_EXHAUSTED.
///
/// Thread-safe.
class RpcServer {
 public:
  /// Listens on every address or on none. INVALID_ARGUMENT for TLS files that do not fit together,
  /// ALREADY_EXISTS for an address in use; every error names the file or address. `services` (not
  /// owned) are hosted beside Data; they and `names` must outlive the server.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<RpcServer>> start(
      const RpcServerOptions& options, tree::Namespace& names, const RpcServices& services);

  /// What start() would say of the files that the options name.
  [[nodiscard]] static absl::Status check_files(const RpcServerOptions& options);

  virtual ~RpcServer() = default;  ///< stop()

  /// Stops listening, gives calls under way `kGrace` (2 s) to finish, cancels the rest. Idempotent.
  virtual void stop() = 0;

  /// Descriptors of the listening sockets, in the order of RpcServerOptions::listen, for a process
  /// that goes on with them: stop() leaves the files of unix sockets where they are from then on,
  /// gives calls half a second, and who connects waits for that process.
  [[nodiscard]] virtual absl::StatusOr<std::vector<base::UniqueFd>> keep_listening() = 0;

  [[nodiscard]] virtual std::vector<base::ListenAddress> addresses() const = 0;
  [[nodiscard]] virtual base::DoorStats stats() const = 0;
};

}  // namespace blobcache::net
