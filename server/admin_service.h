#pragma once

#include <functional>
#include <memory>
#include <string>

#include "blockdev/nbd_server.h"
#include "blockdev/ublk_devices.h"
#include "server/import_runner.h"
#include "server/mount_table.h"
#include "server/scrub_runner.h"
#include "server/snapshot.h"
#include "server/upgrade_desk.h"
#include "server/warm_runner.h"
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
  blockdev::UblkDevices& ublk;
  SnapshotSource& snapshots;
  ScrubRunner& scrubs;
  ImportRunner& imports;
  WarmRunner& warmer;
  std::function<std::string()> config_toml;  ///< the configuration in force
  UpgradeDesk* upgrades = nullptr;           ///< absent: there is no way to be upgraded
  bool for_owners = false;                   ///< its callers may name a program to become
};

/// blobcache.v1.Admin, for an RpcServer to host: checks what came in, asks the parts, and turns
/// their status into gRPC's. Who may call is the RpcServer's to say.
///
/// Thread-safe. Calls run on gRPC's threads and may wait for the catalog or for a mount;
/// a scrub, a collection of garbage, an import or a warming that is waited for takes one for as
/// long as it runs.
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
