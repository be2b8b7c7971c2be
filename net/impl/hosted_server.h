#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "net/impl/data_door.h"
#include "net/impl/data_service.h"
#include "net/rpc_server.h"
#include "store/tree/namespace.h"

namespace blobcache::net {

/// Answers every call that no other service of a server takes: PERMISSION_DENIED, for a server
/// whose callers may not administer. Thread-safe.
class DenyingService final : public grpc::CallbackGenericService {
 public:
  /// `why` follows the method's name in the answer.
  explicit DenyingService(std::string why) : why_(std::move(why)) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

 private:
  const std::string why_;
};

/// How gRPC's transport is to behave. Value type.
struct TransportOptions {
  uint64_t stream_window_bytes = uint64_t{4} << 20;
  uint64_t connection_window_bytes = uint64_t{32} << 20;
  uint32_t max_streams = 1024;
};

/// One grpc::Server for one kind of caller: connections are handed to it, it binds no port itself.
/// What its callers may do is thus a property of the object that serves them, whatever gRPC says
/// about the peer.
///
/// Its services are those of `others` that are for its callers.
///
/// take() on one thread at a time; stop() once, from any thread, after the last take(). `door` and
/// `others` must outlive it.
class HostedServer {
 public:
  struct Caller {
    tree::Creator creator;
    bool admin = false;      ///< may call `others`
    bool owner = false;      ///< and those of owners in their place
    std::string why_denied;  ///< what one who may not is told, after the method's name
  };

  [[nodiscard]] static absl::StatusOr<std::unique_ptr<HostedServer>> create(
      DataDoor& door, const Caller& caller, const RpcServices& others,
      const TransportOptions& transport,
      const std::shared_ptr<grpc::ServerCredentials>& credentials);

  /// Serves a connected socket, which it owns from now on.
  void take(base::UniqueFd connection);

  /// Lets calls go on until `deadline`, then cancels them; returns when all have ended.
  void stop(std::chrono::system_clock::time_point deadline) { server_->Shutdown(deadline); }

 private:
  HostedServer(DataDoor& door, const Caller& caller)
      : data_(door, caller.creator), denying_(caller.why_denied) {}

  DataService data_;
  DenyingService denying_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace blobcache::net
