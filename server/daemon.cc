#include "server/daemon.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/io_flusher.h"
#include "base/size.h"
#include "base/status.h"
#include "server/config_keys.h"
#include "server/impl/config_checks.h"
#include "server/limits.h"
#include "server/logging.h"
#include "server/options.h"
#include "server/version.h"
#include "store/tree/handover.h"

namespace blobcache::server {
namespace {

void append(std::vector<Listener>& listeners, const char* door,
            const std::vector<base::ListenAddress>& addresses) {
  for (const base::ListenAddress& address : addresses) {
    listeners.push_back({door, address.to_string()});
  }
}

/// Runs `start` only when there is somewhere to listen. Its errors get the key's name when they are
/// about the place, and the door's otherwise.
template <typename Start>
absl::Status listen_if_any(const std::vector<base::ListenAddress>& listen, std::string_view door,
                           Start start) {
  if (listen.empty()) return absl::OkStatus();
  const std::string key = fmt::format("{}.listen", door);
  if (absl::Status made = prepare_socket_directories(listen); !made.ok()) {
    return base::annotate(made, key);
  }
  const absl::Status started = start();
  return base::annotate(started, absl::IsAlreadyExists(started) ? key : door);
}

/// Budgets that can be, and yet are hardly meant.
void warn_of_budgets(const Snapshot& now) {
  const absl::StatusOr<uint64_t> whole = file_system_size(now.store_path);
  if (whole.ok() && *whole > 0 && now.store.disk_budget_bytes > *whole) {
    spdlog::warn("store.disk: {} is more than the whole file system of {}, which has {}",
                 base::format_size(now.store.disk_budget_bytes), now.store_path.native(),
                 base::format_size(*whole));
  }
  if (now.store.disk_kept_bytes > now.store.disk_budget_bytes) {
    spdlog::warn(
        "store.disk: {} are kept, and the budget is {}: puts are refused until something is "
        "removed; all that is kept stays readable",
        base::format_size(now.store.disk_kept_bytes),
        base::format_size(now.store.disk_budget_bytes));
  }
}

}  // namespace

Daemon::Daemon(Key /*key*/, const Config& config, const DaemonEnvironment& environment)
    : started_(absl::Now()), environment_(environment), config_(config) {}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::start(const Config& config,
                                                      const DaemonEnvironment& environment) {
  // Whatever fails below, the destructor undoes the rest.
  auto daemon = std::make_unique<Daemon>(Key(), config, environment);
  const absl::Status started = daemon->start_all();
  if (!started.ok() && environment.on_failure) environment.on_failure(started);
  if (!started.ok()) return started;
  daemon->log_start();
  return daemon;
}

absl::Status Daemon::start_all() {
  BLOBCACHE_RETURN_IF_ERROR(unpack_handover());
  BLOBCACHE_RETURN_IF_ERROR(start_store());
  return start_doors();
}

absl::Status Daemon::start_store() {
  Config config;
  {
    const absl::MutexLock lock(&mutex_);
    config = config_;
  }
  Config::Store& store = config.store;
  guard_ = std::make_shared<LoopGuard>(store.path);
  BLOBCACHE_ASSIGN_OR_RETURN(origins_, make_origins(config.origins, environment_.factory, guard_));
  absl::StatusOr<std::filesystem::path> path = prepare_store_directory(store.path);
  if (!path.ok()) return base::annotate(path.status(), "store.path");
  store.path = *path;
  {
    const absl::MutexLock lock(&mutex_);
    config_.store.path = *path;
  }
  // The page store cleans its directory when it opens: by then nobody else may be at work there.
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(lock_store(*path), "store.path"));
  BLOBCACHE_ASSIGN_OR_RETURN(page::PageStoreOptions options, page_store_options(config));
  if (handed_) {
    BLOBCACHE_ASSIGN_OR_RETURN(options.lent, tree::lent_objects(handed_->tree));
  }
  absl::StatusOr<std::unique_ptr<page::PageStore>> opened = page::PageStore::open(options);
  if (!opened.ok()) return base::annotate(opened.status(), fmt::format("store {}", path->native()));
  store_ = std::move(*opened);
  BLOBCACHE_ASSIGN_OR_RETURN(tree::NamespaceOptions tree, namespace_options(store, lock_));
  tree.origins = origins_;
  if (handed_) tree.handed_over = &handed_->tree;
  absl::StatusOr<std::unique_ptr<tree::Namespace>> names = tree::Namespace::open(tree, *store_);
  if (!names.ok()) return base::annotate(names.status(), fmt::format("store {}", path->native()));
  names_ = std::move(*names);
  scrubs_ = std::make_unique<ScrubRunner>(*names_);
  imports_ = std::make_unique<ImportRunner>(*names_, store_->stats().memory_budget_bytes);
  warmer_ = std::make_unique<WarmRunner>(*names_, *store_);
  return absl::OkStatus();
}

absl::Status Daemon::start_doors() {
  fusefs::MountOptions mount;
  MountView first;
  std::filesystem::path store;
  std::vector<std::string> exports;
  {
    const absl::MutexLock lock(&mutex_);
    exports = config_.nbd.exports;
    mount = mount_options(config_.fuse);
    first = {.mountpoint = mount.mountpoint,
             .subtree = config_.fuse.subtree,
             .read_only = config_.fuse.read_only,
             .writeback_cache = config_.fuse.writeback_cache};
    store = config_.store.path;
  }
  mounts_ = std::make_unique<MountTable>(
      mount,
      [this, store](const fusefs::MountOptions& options, std::function<void()> on_end)
          -> absl::StatusOr<std::unique_ptr<fusefs::Mount>> {
        BLOBCACHE_RETURN_IF_ERROR(
            base::annotate(check_apart(options.mountpoint, store),
                           fmt::format("mountpoint {}", options.mountpoint.native())));
        return fusefs::Mount::start(options, *names_, std::move(on_end));
      });
  guard_->set_mounts([this] {
    LoopGuard::Mounts mounts{{}, mounts_->devices()};
    for (const MountView& each : mounts_->list()) mounts.mountpoints.push_back(each.mountpoint);
    return mounts;
  });
  BLOBCACHE_ASSIGN_OR_RETURN(ublk_, blockdev::UblkDevices::create(exports, *names_));
  BLOBCACHE_RETURN_IF_ERROR(start_nbd());
  BLOBCACHE_RETURN_IF_ERROR(start_grpc());
  BLOBCACHE_RETURN_IF_ERROR(start_metrics());
  if (handed_) return take_mounts_over();
  // Last, so that a start that fails on a port in use never shows a mount at all.
  if (first.mountpoint.empty()) return absl::OkStatus();
  return base::annotate(mounts_->add(first), "fuse.mountpoint");
}

absl::Status Daemon::start_nbd() {
  Config::Nbd config;
  {
    const absl::MutexLock lock(&mutex_);
    config = config_.nbd;
  }
  blockdev::NbdServerOptions options = nbd_options(config, store_->stats().memory_budget_bytes);
  options.listen_on = listen_for("nbd");
  return listen_if_any(config.listen, "nbd", [&]() -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<blockdev::NbdServer> server,
                               blockdev::NbdServer::start(options, *names_));
    const absl::MutexLock lock(&mutex_);
    nbd_ = std::move(server);
    return absl::OkStatus();
  });
}

absl::Status Daemon::start_grpc() {
  Config::Grpc config;
  blockdev::NbdServer* nbd = nullptr;
  {
    const absl::MutexLock lock(&mutex_);
    config = config_.grpc;
    nbd = nbd_.get();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(net::RpcServerOptions options,
                             rpc_options(config, store_->stats().memory_budget_bytes));
  options.listen_on = listen_for("grpc");
  AdminParts parts{*names_,
                   *mounts_,
                   nbd,
                   *ublk_,
                   *this,
                   *scrubs_,
                   *imports_,
                   *warmer_,
                   [this] { return config_toml(); },
                   environment_.upgrades};
  admin_ = std::make_unique<AdminService>(parts);
  parts.for_owners = true;
  owner_admin_ = std::make_unique<AdminService>(parts);
  return listen_if_any(config.listen, "grpc", [&]() -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(
        std::unique_ptr<net::RpcServer> server,
        net::RpcServer::start(options, *names_,
                              {{&admin_->service()}, {&owner_admin_->service()}}));
    const absl::MutexLock lock(&mutex_);
    rpc_ = std::move(server);
    return absl::OkStatus();
  });
}

absl::Status Daemon::start_metrics() {
  Config::Metrics config;
  {
    const absl::MutexLock lock(&mutex_);
    config = config_.metrics;
  }
  if (!config.listen.has_value()) return absl::OkStatus();
  if (handed_ && handed_->metrics_wanted == config.listen->to_string()) {
    BLOBCACHE_ASSIGN_OR_RETURN(config.listen, base::parse_listen_address(handed_->metrics_actual));
  }
  absl::StatusOr<std::unique_ptr<MetricsServer>> server =
      MetricsServer::start(*config.listen, *this);
  if (!server.ok()) return base::annotate(server.status(), "metrics.listen");
  const absl::MutexLock lock(&mutex_);
  metrics_ = std::move(*server);
  return absl::OkStatus();
}

void Daemon::log_start() {
  bool serves_devices = false;
  {
    const absl::MutexLock lock(&mutex_);
    set_log_level(config_.log.level);
    serves_devices = nbd_ != nullptr;
  }
  const Snapshot now = snapshot();
  spdlog::info("blobcached {}: store {}, memory {}, disk {} of {} used", now.version,
               now.store_path.native(), base::format_size(now.store.memory_budget_bytes),
               base::format_size(now.store.disk_used_bytes),
               base::format_size(now.store.disk_budget_bytes));
  warn_of_budgets(now);
  for (const Listener& listener : now.listeners) {
    spdlog::info("{} listens on {}", listener.door, listener.address);
  }
  if (serves_devices && !base::may_become_io_flusher()) {
    spdlog::info(
        "no CAP_SYS_RESOURCE: a device that this machine attaches may hang when memory runs out");
  }
  for (const OriginState& origin : now.origins) {
    spdlog::info("origins/{} is {}", origin.name, origin.description);
  }
  for (const MountView& mount : now.mounts) spdlog::info("mounted on {}", mount.to_string());
}

void Daemon::reload(const Config& next) {
  Config before;
  {
    const absl::MutexLock lock(&mutex_);
    before = config_;
  }
  Config after = before;
  after.log = next.log;
  after.fuse = next.fuse;
  after.fuse.mountpoint = before.fuse.mountpoint;
  after.fuse.subtree = before.fuse.subtree;
  after.fuse.read_only = before.fuse.read_only;
  after.fuse.writeback_cache = before.fuse.writeback_cache;
  if (reload_metrics(next.metrics)) after.metrics = next.metrics;
  mounts_->set_defaults(mount_options(after.fuse));
  set_log_level(after.log.level);
  {
    const absl::MutexLock lock(&mutex_);
    config_ = after;
  }
  for (const ConfigKey* key : changed_keys(before, after)) {
    spdlog::info("reload: {} is now {}{}", key->full_name(), key->print(after),
                 key->section == "fuse" ? ", for mounts made from now on" : "");
  }
  Config comparable = next;
  if (absl::StatusOr<std::filesystem::path> path = absolute_path(next.store.path); path.ok()) {
    comparable.store.path = *path;
  }
  for (const ConfigKey* key : changed_keys(after, comparable)) {
    if (key->effect == Effect::kRestart) {
      spdlog::warn("reload: {} has changed; it takes effect at the next start", key->full_name());
    }
  }
  if (after.origins != next.origins) {
    spdlog::warn("reload: [[origin]] has changed; it takes effect at the next start");
  }
  reload_certificates();
  spdlog::info("reload: done");
}

void Daemon::reload_certificates() {
  absl::Status status;
  {
    const absl::MutexLock lock(&mutex_);
    if (nbd_ == nullptr || config_.nbd.tls == "off") return;
    status = nbd_->reload_tls();
  }
  if (status.ok()) {
    spdlog::info("reload: nbd.tls: certificates and keys were read again");
  } else {
    spdlog::error("reload: nbd.tls: {}; what was read before stays in use", base::message(status));
  }
}

bool Daemon::reload_metrics(const Config::Metrics& next) {
  std::optional<base::ListenAddress> current;
  {
    const absl::MutexLock lock(&mutex_);
    current = config_.metrics.listen;
  }
  if (current == next.listen) return true;
  std::unique_ptr<MetricsServer> server;
  if (next.listen.has_value()) {
    absl::StatusOr<std::unique_ptr<MetricsServer>> started =
        MetricsServer::start(*next.listen, *this);
    if (!started.ok()) {
      spdlog::error("reload: metrics.listen: {}; it stays as it was",
                    base::message(started.status()));
      return false;
    }
    server = std::move(*started);
  }
  {
    const absl::MutexLock lock(&mutex_);
    metrics_.swap(server);
  }
  return true;  // the old server, if there was one, ends here, outside the lock
}

Snapshot Daemon::snapshot() {
  Snapshot now;
  now.version = version();
  now.pid = ::getpid();
  now.started = started_;
  now.store = store_->stats();
  if (absl::StatusOr<tree::Namespace::Counts> counts = names_->counts(); counts.ok()) {
    now.counts = *counts;
  } else {
    spdlog::error("the catalog does not answer: {}", base::message(counts.status()));
  }
  now.mounts = mounts_->list();
  now.fuse = mounts_->stats();
  now.scrub = scrubs_->stats();
  for (const std::shared_ptr<tree::Origin>& origin : origins_) {
    now.origins.push_back({origin->name(), origin->description(), origin->health()});
  }
  now.ublk_devices = ublk_->list().size();
  const absl::MutexLock lock(&mutex_);
  now.store_path = config_.store.path;
  if (rpc_ != nullptr) {
    now.grpc = rpc_->stats();
    append(now.listeners, "grpc", rpc_->addresses());
  }
  if (nbd_ != nullptr) {
    now.nbd = nbd_->stats();
    append(now.listeners, "nbd", nbd_->addresses());
  }
  if (metrics_ != nullptr) append(now.listeners, "metrics", {metrics_->address()});
  return now;
}

std::string Daemon::config_toml() {
  const absl::MutexLock lock(&mutex_);
  return config_to_toml(config_);
}

}  // namespace blobcache::server
