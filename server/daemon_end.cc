// The part of the daemon that ends it, and that hands it to the next process and takes it over
// there.

#include <spdlog/spdlog.h>

#include <utility>

#include "base/status.h"
#include "server/daemon.h"

namespace blobcache::server {

void Daemon::stop() {
  stop_doors();
  if (guard_ != nullptr) guard_->set_mounts(nullptr);
  mounts_.reset();
  scrubs_.reset();
  names_.reset();
  store_.reset();
  origins_.clear();
  lock_.reset();
}

void Daemon::stop_doors() {
  std::unique_ptr<MetricsServer> metrics;
  std::unique_ptr<net::RpcServer> rpc;
  std::unique_ptr<blockdev::NbdServer> nbd;
  {
    const absl::MutexLock lock(&mutex_);
    metrics = std::move(metrics_);
    rpc = std::move(rpc_);
    nbd = std::move(nbd_);
  }
  metrics.reset();
  // Calls that wait for one that is away would hold their doors up.
  for (const std::shared_ptr<tree::Origin>& origin : origins_) origin->stop();
  // The call that waits for a scrub would hold up its door.
  if (scrubs_ != nullptr) scrubs_->stop();
  if (imports_ != nullptr) imports_->stop();
  if (warmer_ != nullptr) warmer_->stop();
  if (reattacher_.joinable()) reattacher_.join();
  rpc.reset();
  admin_.reset();
  owner_admin_.reset();
  // What they have under way ends, and lets go of what it has open.
  imports_.reset();
  warmer_.reset();
  ublk_.reset();
  nbd.reset();
}

// Handing over.

absl::StatusOr<std::vector<HandedSocket>> Daemon::keep_listening() {
  std::vector<HandedSocket> sockets;
  const auto add = [&sockets](const char* door, const std::vector<base::ListenAddress>& wanted,
                              const std::vector<base::ListenAddress>& actual,
                              std::vector<base::UniqueFd> kept) {
    for (size_t i = 0; i < kept.size(); ++i) {
      sockets.push_back({door, wanted[i].to_string(), actual[i].to_string(), std::move(kept[i])});
    }
  };
  const absl::MutexLock lock(&mutex_);
  if (nbd_ != nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(std::vector<base::UniqueFd> kept, nbd_->keep_listening());
    add("nbd", config_.nbd.listen, nbd_->addresses(), std::move(kept));
  }
  if (rpc_ != nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(std::vector<base::UniqueFd> kept, rpc_->keep_listening());
    add("grpc", config_.grpc.listen, rpc_->addresses(), std::move(kept));
  }
  return sockets;
}

absl::StatusOr<base::Parcel> Daemon::hand_over() {
  DaemonHandover handover;
  BLOBCACHE_ASSIGN_OR_RETURN(handover.sockets, keep_listening());
  base::ParcelWriter lock;
  BLOBCACHE_RETURN_IF_ERROR(lock_->hand_over(lock));
  handover.lock = std::move(lock).take();
  for (const blockdev::UblkInfo& device : ublk_->list()) {
    handover.devices.push_back({device.id, device.path});
  }
  {
    const absl::MutexLock guard(&mutex_);
    if (metrics_ != nullptr) {
      handover.metrics_wanted = config_.metrics.listen->to_string();
      handover.metrics_actual = metrics_->address().to_string();
    }
  }
  // From here on nobody changes anything.
  stop_doors();
  const std::vector<tree::OpenNode> open = mounts_->open_objects();
  BLOBCACHE_ASSIGN_OR_RETURN(handover.mounts, mounts_->hand_over());
  BLOBCACHE_ASSIGN_OR_RETURN(handover.tree, names_->hand_over(open));
  return pack(std::move(handover));
}

// Taking over.

absl::Status Daemon::unpack_handover() {
  if (environment_.handed_over == nullptr) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(handed_, unpack(*environment_.handed_over));
  sockets_.emplace(std::move(handed_->sockets));
  return absl::OkStatus();
}

absl::Status Daemon::lock_store(const std::filesystem::path& path) {
  if (!handed_) {
    BLOBCACHE_ASSIGN_OR_RETURN(lock_, tree::StoreLock::acquire(path));
    return absl::OkStatus();
  }
  base::ParcelReader lock(handed_->lock);
  BLOBCACHE_ASSIGN_OR_RETURN(lock_, tree::StoreLock::take_over(lock));
  return absl::OkStatus();
}

base::ListenFunction Daemon::listen_for(const char* door) {
  return [this, door](base::ListenAddress& address) {
    return sockets_ ? sockets_->take(door, address) : base::listen_on(address);
  };
}

absl::Status Daemon::take_mounts_over() {
  for (const base::Parcel& mount : handed_->mounts) {
    BLOBCACHE_RETURN_IF_ERROR(
        mounts_->take_over(mount, [this](const base::Parcel& parcel, std::function<void()> on_end) {
          return fusefs::Mount::take_over(parcel, *names_, std::move(on_end));
        }));
  }
  return absl::OkStatus();
}

void Daemon::end_take_over() {
  mounts_->resume();
  names_->end_take_over();
  sockets_->close_rest();
  sockets_.reset();
  std::vector<HandedDevice> devices = std::move(handed_->devices);
  handed_.reset();
  if (devices.empty()) return;
  reattacher_ = std::thread([this, devices = std::move(devices)] { attach_again(devices); });
}

/// Who reads from a device waits until it has a server again.
void Daemon::attach_again(const std::vector<HandedDevice>& devices) {
  for (const HandedDevice& device : devices) {
    const absl::Status status = ublk_->attach(device.path, device.id).status();
    if (status.ok()) continue;
    spdlog::error("/dev/ublkb{}, which shows {}, waits for `blobcachectl attach`: {}", device.id,
                  device.path, base::message(status));
  }
}

}  // namespace blobcache::server
