#pragma once

#include <functional>
#include <memory>
#include <string>

#include "blockdev/nbd_server.h"
#include "server/mount_table.h"
#include "server/snapshot.h"
#include "store/tree/namespace.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace blobcache::server {

/// What the admin service works on; all of it must outlive the service. Value type.
struct AdminParts {
  tree::Namespace& names;
  MountTable& mounts;
  blockdev::NbdServer* nbd = nullptr;  ///< nullptr when the block device door is closed
  SnapshotSource& snapshots;
  std::function<std::string()> config_toml;  ///< the configuration in force
};

/// blobcache.v1.Admin, for an RpcServer to host: checks what came in, asks the parts, and turns
/// their status into gRPC's. Who may call is the RpcServer's to say.
///
/// Thread-safe. Calls run on gRPC's threads and may wait for the catalog or for a mount.
class AdminService {
 public:
  explicit AdminService(AdminParts parts);
  AdminService(const AdminService&) = delete;
  AdminService& operator=(const AdminService&) = delete;
  ~AdminService();

  [[nodiscard]] grpc::Service& service();

 private:
  std::unique_ptr<grpc::Service> service_;
};

}  // namespace blobcache::server
