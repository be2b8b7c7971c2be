#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "blockdev/nbd_server.h"
#include "blockdev/ublk_devices.h"
#include "net/rpc_server.h"
#include "server/admin_service.h"
#include "server/config.h"
#include "server/metrics.h"
#include "server/mount_table.h"
#include "server/origins.h"
#include "server/scrub_runner.h"
#include "server/snapshot.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"
#include "store/tree/store_lock.h"

namespace blobcache::server {

/// The daemon: makes the store, the tree and the doors in that order, and takes them apart in
/// reverse. It is the only place where all rooms of the house are known.
///
/// start(), reload() and stop() are called by one thread; snapshot() and config_toml() by any.
class Daemon final : public SnapshotSource {
 public:
  /// Starts everything that `config` asks for. A failure names the part that could not start and
  /// leaves nothing behind: what had started is stopped, its sockets are removed, nothing stays
  /// mounted. (A directory that was made for the store or for sockets stays.)
  /// `factory` makes the origins.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Daemon>> start(
      const Config& config, const OriginFactory& factory = make_origin);

  /// For start() alone, which is the only one to have a Key.
  class Key {
    friend class Daemon;
    Key() = default;
  };
  Daemon(Key key, const Config& config);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() override { stop(); }

  /// Takes over what can change while the daemon runs, and logs what changed and what waits for the
  /// next start. A part that cannot follow (a new port in use) stays as it was, with a logged
  /// error.
  void reload(const Config& next);

  /// Ends the doors, then the store. Idempotent.
  void stop();

  [[nodiscard]] Snapshot snapshot() override;

  /// The configuration in force, as TOML.
  [[nodiscard]] std::string config_toml();

 private:
  [[nodiscard]] absl::Status start_store(const OriginFactory& factory);
  [[nodiscard]] absl::Status start_doors();
  [[nodiscard]] absl::Status start_nbd();
  [[nodiscard]] absl::Status start_grpc();
  [[nodiscard]] absl::Status start_metrics();
  void reload_certificates();
  [[nodiscard]] bool reload_metrics(const Config::Metrics& next);
  void log_start();

  const absl::Time started_;
  std::shared_ptr<tree::StoreLock> lock_;
  std::unique_ptr<page::PageStore> store_;
  Origins origins_;
  std::unique_ptr<tree::Namespace> names_;
  std::unique_ptr<ScrubRunner> scrubs_;
  std::unique_ptr<MountTable> mounts_;
  std::unique_ptr<blockdev::UblkDevices> ublk_;
  std::unique_ptr<AdminService> admin_;

  /// Guards who is there to be asked. Never held while a door starts or stops: those wait for
  /// threads that may be in snapshot().
  absl::Mutex mutex_;
  Config config_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<blockdev::NbdServer> nbd_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<net::RpcServer> rpc_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<MetricsServer> metrics_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
