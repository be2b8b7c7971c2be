#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "blockdev/nbd_server.h"
#include "blockdev/ublk_devices.h"
#include "net/rpc_server.h"
#include "server/admin_service.h"
#include "server/config.h"
#include "server/daemon_handover.h"
#include "server/import_runner.h"
#include "server/loop_guard.h"
#include "server/metrics.h"
#include "server/mount_table.h"
#include "server/origins.h"
#include "server/scrub_runner.h"
#include "server/snapshot.h"
#include "server/upgrade_desk.h"
#include "server/warm_runner.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"
#include "store/tree/store_lock.h"

namespace blobcache::server {

/// What a daemon is started with besides its configuration. What it points to outlives the daemon.
struct DaemonEnvironment {
  OriginFactory factory = &make_origin;  ///< makes the origins
  UpgradeDesk* upgrades = nullptr;       ///< absent: it cannot be asked for an upgrade
  /// What hand_over() gave in the process before: mounts and sockets are taken over, and the mounts
  /// are paused. Only for start().
  const base::Parcel* handed_over = nullptr;
  /// Called when a start fails, before anything is undone.
  std::function<void(const absl::Status&)> on_failure;
};

/// The daemon: makes the store, the tree and the doors in that order, and takes them apart in
/// reverse. It is the only place where all rooms of the house are known.
///
/// start(), reload() and stop() are called by one thread; snapshot() and config_toml() by any.
class Daemon final : public SnapshotSource {
 public:
  /// Starts everything that `config` asks for. A failure names the part that could not start and
  /// leaves nothing behind: what had started is stopped, its sockets are removed, nothing stays
  /// mounted. (A directory that was made for the store or for sockets stays.)
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Daemon>> start(
      const Config& config, const DaemonEnvironment& environment = {});

  /// For start() alone, which is the only one to have a Key.
  class Key {
    friend class Daemon;
    Key() = default;
  };
  Daemon(Key key, const Config& config, const DaemonEnvironment& environment);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() override { stop(); }

  /// Takes over what can change while the daemon runs, and logs what changed and what waits for the
  /// next start. A part that cannot follow (a new port in use) stays as it was, with a logged
  /// error.
  void reload(const Config& next);

  /// Ends the doors, then the store. Idempotent.
  void stop();

  // For a process that takes over, by the thread that stops it.
  /// As MountTable::pause() and resume().
  [[nodiscard]] absl::Status pause(absl::Time deadline) { return mounts_->pause(deadline); }
  void resume() { mounts_->resume(); }
  /// Of a daemon that is paused: ends the doors but for listening sockets and mounts, which are in
  /// the parcel with all that they have open. Then it can only be stopped, which closes the store
  /// and leaves the mounts waiting. After an error it cannot be handed over any more.
  [[nodiscard]] absl::StatusOr<base::Parcel> hand_over();
  /// Of a daemon that was started with such a parcel: it serves the mounts, and lets go of what
  /// nobody has asked for again.
  void end_take_over();
  [[nodiscard]] OwnMounts& mounts() { return *mounts_; }

  [[nodiscard]] Snapshot snapshot() override;

  /// The configuration in force, as TOML.
  [[nodiscard]] std::string config_toml();

 private:
  [[nodiscard]] absl::Status start_all();
  [[nodiscard]] absl::Status unpack_handover();
  [[nodiscard]] absl::Status lock_store(const std::filesystem::path& path);
  [[nodiscard]] absl::Status start_store();
  [[nodiscard]] absl::Status start_doors();
  [[nodiscard]] absl::Status take_mounts_over();
  [[nodiscard]] absl::StatusOr<std::vector<HandedSocket>> keep_listening();
  [[nodiscard]] base::ListenFunction listen_for(const char* door);
  void stop_doors();
  void attach_again(const std::vector<HandedDevice>& devices);
  [[nodiscard]] absl::Status start_nbd();
  [[nodiscard]] absl::Status start_grpc();
  [[nodiscard]] absl::Status start_metrics();
  void reload_certificates();
  [[nodiscard]] bool reload_metrics(const Config::Metrics& next);
  void log_start();

  const absl::Time started_;
  const DaemonEnvironment environment_;
  std::optional<DaemonHandover> handed_;  ///< until it has been taken over
  std::optional<HandedSockets> sockets_;  ///< the same
  std::thread reattacher_;                ///< gives devices of the process before their server
  std::shared_ptr<tree::StoreLock> lock_;
  std::unique_ptr<page::PageStore> store_;
  std::shared_ptr<LoopGuard> guard_;
  Origins origins_;
  std::unique_ptr<tree::Namespace> names_;
  std::unique_ptr<ScrubRunner> scrubs_;
  std::unique_ptr<ImportRunner> imports_;
  std::unique_ptr<WarmRunner> warmer_;
  std::unique_ptr<MountTable> mounts_;
  std::unique_ptr<blockdev::UblkDevices> ublk_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<AdminService> owner_admin_;  ///< the same for who may do more

  /// Guards who is there to be asked. Never held while a door starts or stops: those wait for
  /// threads that may be in snapshot().
  absl::Mutex mutex_;
  Config config_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<blockdev::NbdServer> nbd_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<net::RpcServer> rpc_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<MetricsServer> metrics_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
