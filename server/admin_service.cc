#include "server/admin_service.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "net/node_message.h"
#include "server/impl/transfer_calls.h"
#include "server/impl/upgrade_calls.h"
#include "server/impl/upkeep_calls.h"
#include "server/impl/volume_calls.h"
#include "store/page/geometry.h"

namespace blobcache::server {
namespace {

constexpr uint32_t kMaxEntries = 10'000;
/// A client takes messages of at most 4 MiB unless it says otherwise.
constexpr size_t kMaxAnswerBytes = size_t{3} << 20;

/// Abseil's codes and gRPC's are the same numbers.
grpc::Status to_grpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), std::string(base::message(status))};
}

grpc::Status invalid(const std::string& reason) {
  return {grpc::StatusCode::INVALID_ARGUMENT, reason};
}

uint32_t bounded(uint32_t limit) { return limit == 0 ? kMaxEntries : std::min(limit, kMaxEntries); }

void fill(const base::DoorStats& stats, v1::DoorStatus& out) {
  out.set_requests(stats.requests);
  out.set_bytes_out(stats.bytes_out);
  out.set_bytes_in(stats.bytes_in);
  out.set_errors(stats.errors);
  out.set_open(stats.open);
  out.set_passed_through(stats.passed_through);
}

void fill(const page::Stats& stats, v1::StatusResponse& out) {
  out.mutable_memory()->set_used(stats.memory_resident_bytes);
  out.mutable_memory()->set_budget(stats.memory_budget_bytes);
  out.mutable_memory()->set_evicted(stats.memory_evicted_extents * page::kExtentSize);
  out.mutable_disk()->set_used(stats.disk_used_bytes);
  out.mutable_disk()->set_budget(stats.disk_budget_bytes);
  out.mutable_disk()->set_kept(stats.disk_kept_bytes);
  out.mutable_disk()->set_evicted(stats.disk_evicted_bytes);
  out.set_memory_hit_pages(stats.memory_hit_pages);
  out.set_disk_hit_pages(stats.disk_hit_pages);
  out.set_remote_hit_pages(stats.remote_hit_pages);
  out.set_zero_pages(stats.zero_pages);
  out.set_checksum_errors(stats.checksum_errors);
  out.set_read_errors(stats.read_errors);
  out.set_disk_read_bytes(stats.disk_read_bytes);
  out.set_disk_written_bytes(stats.disk_written_bytes);
  out.set_disk_errors(stats.disk_errors);
  out.set_disk_out(stats.disk_out);
  out.set_disk_filled(stats.disk_filled_bytes);
  out.set_source_checksum_errors(stats.source_checksum_errors);
  out.set_map_errors(stats.map_errors);
  out.set_maps_rebuilt(stats.maps_rebuilt);
  out.set_pinned_frames(stats.memory_pinned_frames);
  out.set_syncs(stats.syncs);
}

void fill(const OriginState& origin, v1::OriginStatus& out) {
  out.set_name(origin.name);
  out.set_description(origin.description);
  out.set_tried(origin.health.tried);
  out.set_reachable(origin.health.reachable);
  out.set_trouble(origin.health.reachable ? "" : origin.health.trouble);
  out.set_connections(origin.health.connections);
  out.set_requests(origin.health.requests);
  out.set_bytes_read(origin.health.bytes_read);
  out.set_bytes_written(origin.health.bytes_written);
  out.set_retries(origin.health.retries);
}

void fill(const Snapshot& snapshot, v1::StatusResponse& out) {
  out.set_version(snapshot.version);
  out.set_pid(static_cast<uint64_t>(snapshot.pid));
  out.set_started_ns(absl::ToUnixNanos(snapshot.started));
  out.set_store_path(snapshot.store_path.native());
  fill(snapshot.store, out);
  if (snapshot.counts.has_value()) {
    out.set_blobs(snapshot.counts->blobs);
    out.set_blob_bytes(snapshot.counts->blob_bytes);
    out.set_names(snapshot.counts->names);
    out.set_unnamed_blobs(snapshot.counts->unnamed_blobs);
    out.set_unsettled_files(snapshot.counts->unsettled_files);
  }
  for (const MountView& mount : snapshot.mounts) {
    v1::MountStatus* status = out.add_mounts();
    status->set_mountpoint(mount.mountpoint.native());
    status->set_subtree(mount.subtree);
    status->set_read_only(mount.read_only);
    status->set_no_exec(mount.no_exec);
    status->set_writeback_cache(mount.writeback_cache);
  }
  for (const Listener& listener : snapshot.listeners) {
    v1::ListenerStatus* status = out.add_listeners();
    status->set_door(listener.door);
    status->set_address(listener.address);
  }
  fill(snapshot.fuse, *out.mutable_fuse());
  fill(snapshot.nbd, *out.mutable_nbd());
  fill(snapshot.grpc, *out.mutable_grpc());
  fill(snapshot.scrub, *out.mutable_scrub());
  for (const OriginState& origin : snapshot.origins) fill(origin, *out.add_origins());
  out.set_ublk_devices(snapshot.ublk_devices);
}

/// nullopt for a number that this version does not know.
std::optional<tree::EvictFrom> to_evict_from(v1::EvictRequest::Tier tier) {
  switch (tier) {
    case v1::EvictRequest::MEMORY:
      return tree::EvictFrom::kMemory;
    case v1::EvictRequest::DISK:
      return tree::EvictFrom::kDisk;
    case v1::EvictRequest::TIER_UNSPECIFIED:
    case v1::EvictRequest::ALL:
      return tree::EvictFrom::kAll;
    default:
      return std::nullopt;
  }
}

/// OK for what may be a mountpoint at all.
grpc::Status check_mountpoint(const std::string& mountpoint) {
  if (mountpoint.empty() || mountpoint.front() != '/') {
    return invalid(fmt::format("mountpoint \"{}\": must be an absolute path", mountpoint));
  }
  if (mountpoint.find('\0') != std::string::npos) {
    return invalid("mountpoint: must not contain a NUL byte");
  }
  return grpc::Status::OK;
}

class AdminServiceImpl final : public v1::Admin::Service {
 public:
  explicit AdminServiceImpl(AdminParts parts) : parts_(std::move(parts)) {}

  grpc::Status Status(grpc::ServerContext* /*context*/, const v1::StatusRequest* /*request*/,
                      v1::StatusResponse* response) override {
    const Snapshot snapshot = parts_.snapshots.snapshot();
    if (!snapshot.counts.has_value()) {
      return {grpc::StatusCode::UNAVAILABLE, "the catalog does not answer; see the daemon's log"};
    }
    fill(snapshot, *response);
    return grpc::Status::OK;
  }

  grpc::Status List(grpc::ServerContext* /*context*/, const v1::ListRequest* request,
                    v1::ListResponse* response) override {
    const uint32_t limit = bounded(request->limit());
    absl::StatusOr<std::vector<tree::NamedNode>> entries =
        list(request->path(), request->cookie(), limit);
    if (!entries.ok()) return to_grpc(entries.status());
    for (const tree::NamedNode& entry : *entries) {
      v1::ListResponse::Entry* out = response->add_entries();
      out->set_name(entry.name);
      net::fill(entry.node, *out->mutable_node());
    }
    if (entries->size() == limit) response->set_next_cookie(entries->back().cookie);
    return grpc::Status::OK;
  }

  grpc::Status Name(grpc::ServerContext* /*context*/, const v1::NameRequest* request,
                    v1::NameResponse* response) override {
    page::ObjectKey key;
    if (request->digest().size() != key.bytes.size()) {
      return invalid(fmt::format("the digest has {} bytes; a SHA-256 has {}",
                                 request->digest().size(), key.bytes.size()));
    }
    std::memcpy(key.bytes.data(), request->digest().data(), key.bytes.size());
    const absl::StatusOr<tree::Node> node =
        parts_.names.bind(request->path(), key, {::geteuid(), ::getegid(), tree::MayReplace::kAll});
    if (!node.ok()) return to_grpc(node.status());
    net::fill(*node, *response->mutable_node());
    return grpc::Status::OK;
  }

  grpc::Status Remove(grpc::ServerContext* /*context*/, const v1::RemoveRequest* request,
                      v1::RemoveResponse* /*response*/) override {
    return to_grpc(parts_.names.remove(request->path()));
  }

  grpc::Status Pin(grpc::ServerContext* /*context*/, const v1::PinRequest* request,
                   v1::PinResponse* response) override {
    const absl::StatusOr<tree::Node> node = parts_.names.pin(request->path());
    if (!node.ok()) return to_grpc(node.status());
    net::fill(*node, *response->mutable_node());
    return grpc::Status::OK;
  }

  grpc::Status Unpin(grpc::ServerContext* /*context*/, const v1::UnpinRequest* request,
                     v1::UnpinResponse* response) override {
    const absl::StatusOr<tree::Node> node = parts_.names.unpin(request->path());
    if (!node.ok()) return to_grpc(node.status());
    net::fill(*node, *response->mutable_node());
    return grpc::Status::OK;
  }

  grpc::Status Evict(grpc::ServerContext* /*context*/, const v1::EvictRequest* request,
                     v1::EvictResponse* response) override {
    const std::optional<tree::EvictFrom> from = to_evict_from(request->tier());
    if (!from) return invalid(fmt::format("tier {}: unknown", static_cast<int>(request->tier())));
    const absl::StatusOr<tree::Evicted> evicted = parts_.names.evict(request->path(), *from);
    if (!evicted.ok()) return to_grpc(evicted.status());
    response->set_memory_pages(evicted->memory_pages);
    response->set_removed(evicted->removed);
    response->set_disk_bytes(evicted->disk_bytes);
    response->set_stays(evicted->stays);
    return grpc::Status::OK;
  }

  grpc::Status Exports(grpc::ServerContext* context, const v1::ExportsRequest* request,
                       v1::ExportsResponse* response) override;

  grpc::Status CreateVolume(grpc::ServerContext* /*context*/,
                            const v1::CreateVolumeRequest* request,
                            v1::CreateVolumeResponse* response) override {
    return to_grpc(serve_create(parts_.names.volumes(), *request, *response));
  }

  grpc::Status RemoveVolume(grpc::ServerContext* /*context*/,
                            const v1::RemoveVolumeRequest* request,
                            v1::RemoveVolumeResponse* /*response*/) override {
    return to_grpc(parts_.names.volumes().remove(request->name()));
  }

  grpc::Status ListVolumes(grpc::ServerContext* /*context*/,
                           const v1::ListVolumesRequest* /*request*/,
                           v1::ListVolumesResponse* response) override {
    return to_grpc(serve_list(parts_.names.volumes(), *response));
  }

  grpc::Status ResizeVolume(grpc::ServerContext* /*context*/,
                            const v1::ResizeVolumeRequest* request,
                            v1::ResizeVolumeResponse* response) override {
    return to_grpc(serve_resize(parts_.names.volumes(), parts_.ublk, *request, *response));
  }

  grpc::Status CommitVolume(grpc::ServerContext* context, const v1::CommitVolumeRequest* request,
                            grpc::ServerWriter<v1::CommitVolumeResponse>* writer) override {
    return to_grpc(serve_commit(parts_.names.volumes(), *context, *request, *writer));
  }

  grpc::Status CopyVolume(grpc::ServerContext* context, const v1::CopyVolumeRequest* request,
                          grpc::ServerWriter<v1::CopyVolumeResponse>* writer) override {
    return to_grpc(serve_copy(parts_.names.volumes(), *context, *request, *writer));
  }

  grpc::Status Import(grpc::ServerContext* context, const v1::ImportRequest* request,
                      grpc::ServerWriter<v1::ImportResponse>* writer) override {
    return to_grpc(serve_import(parts_.imports, *context, *request, *writer));
  }

  grpc::Status Warm(grpc::ServerContext* context, const v1::WarmRequest* request,
                    grpc::ServerWriter<v1::WarmResponse>* writer) override {
    return to_grpc(serve_warm(parts_.warmer, *context, *request, *writer));
  }

  grpc::Status AttachUblk(grpc::ServerContext* context, const v1::AttachUblkRequest* request,
                          v1::AttachUblkResponse* response) override;

  grpc::Status DetachUblk(grpc::ServerContext* /*context*/, const v1::DetachUblkRequest* request,
                          v1::DetachUblkResponse* /*response*/) override {
    const absl::Status detached = parts_.ublk.detach(request->id());
    if (detached.ok()) spdlog::info("/dev/ublkb{} is detached", request->id());
    return to_grpc(detached);
  }

  grpc::Status ListUblk(grpc::ServerContext* /*context*/, const v1::ListUblkRequest* /*request*/,
                        v1::ListUblkResponse* response) override {
    for (const blockdev::UblkInfo& device : parts_.ublk.list()) {
      v1::ListUblkResponse::Device* const out = response->add_devices();
      out->set_id(device.id);
      out->set_path(device.path);
      out->set_size(device.size_bytes);
      out->set_read_only(device.read_only);
    }
    return grpc::Status::OK;
  }

  grpc::Status Mount(grpc::ServerContext* /*context*/, const v1::MountRequest* request,
                     v1::MountResponse* /*response*/) override {
    if (grpc::Status checked = check_mountpoint(request->mountpoint()); !checked.ok()) {
      return checked;
    }
    const MountView wanted = {.mountpoint = request->mountpoint(),
                              .subtree = request->subtree(),
                              .read_only = request->read_only(),
                              .no_exec = request->no_exec(),
                              .writeback_cache = request->writeback_cache()};
    const absl::Status mounted = parts_.mounts.add(wanted);
    if (mounted.ok()) spdlog::info("mounted on {}", wanted.to_string());
    return to_grpc(mounted);
  }

  grpc::Status Unmount(grpc::ServerContext* /*context*/, const v1::UnmountRequest* request,
                       v1::UnmountResponse* /*response*/) override {
    if (grpc::Status checked = check_mountpoint(request->mountpoint()); !checked.ok()) {
      return checked;
    }
    const absl::Status unmounted = parts_.mounts.remove(request->mountpoint());
    if (unmounted.ok()) spdlog::info("unmounted {}", request->mountpoint());
    return to_grpc(unmounted);
  }

  grpc::Status Upgrade(grpc::ServerContext* /*context*/, const v1::UpgradeRequest* request,
                       v1::UpgradeResponse* response) override {
    if (parts_.upgrades != nullptr && !parts_.for_owners) {
      const absl::Status may = parts_.upgrades->check_named(request->program());
      if (!may.ok()) return to_grpc(may);
    }
    return to_grpc(serve_upgrade(parts_.upgrades, parts_.mounts, *request, *response));
  }

  grpc::Status UpgradeOutcome(grpc::ServerContext* /*context*/,
                              const v1::UpgradeOutcomeRequest* request,
                              v1::UpgradeOutcomeResponse* response) override {
    return to_grpc(serve_upgrade_outcome(parts_.upgrades, *request, *response));
  }

  grpc::Status ShowConfig(grpc::ServerContext* /*context*/,
                          const v1::ShowConfigRequest* /*request*/,
                          v1::ShowConfigResponse* response) override {
    response->set_toml(parts_.config_toml());
    return grpc::Status::OK;
  }

  grpc::Status Scrub(grpc::ServerContext* context, const v1::ScrubRequest* request,
                     grpc::ServerWriter<v1::ScrubResponse>* writer) override {
    return to_grpc(serve_scrub(parts_.scrubs, *context, *request, *writer));
  }

  grpc::Status Gc(grpc::ServerContext* context, const v1::GcRequest* request,
                  grpc::ServerWriter<v1::GcResponse>* writer) override {
    return to_grpc(serve_gc(parts_.names, *context, *request, *writer));
  }

 private:
  absl::StatusOr<std::vector<tree::NamedNode>> list(const std::string& path, uint64_t cookie,
                                                    uint32_t limit) {
    tree::NodeId directory = tree::kRootNode;
    if (!path.empty() && path != "/") {
      BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, parts_.names.resolve(path));
      if (node.type != tree::NodeType::kDirectory) {
        return absl::FailedPreconditionError(fmt::format("{}: is no directory", path));
      }
      directory = node.id;
    }
    return parts_.names.list(directory, cookie, limit);
  }

  const AdminParts parts_;
};

grpc::Status AdminServiceImpl::AttachUblk(grpc::ServerContext* /*context*/,
                                          const v1::AttachUblkRequest* request,
                                          v1::AttachUblkResponse* response) {
  std::optional<uint32_t> id;
  if (request->has_id()) id = request->id();
  const absl::StatusOr<blockdev::UblkInfo> attached = parts_.ublk.attach(request->path(), id);
  if (!attached.ok()) return to_grpc(attached.status());
  spdlog::info("/dev/ublkb{} shows {}{}", attached->id, attached->path,
               attached->recovered ? ", and goes on" : "");
  response->set_id(attached->id);
  response->set_size(attached->size_bytes);
  response->set_read_only(attached->read_only);
  response->set_reconnected(attached->recovered);
  return grpc::Status::OK;
}

grpc::Status AdminServiceImpl::Exports(grpc::ServerContext* /*context*/,
                                       const v1::ExportsRequest* request,
                                       v1::ExportsResponse* response) {
  if (parts_.nbd == nullptr) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "the block device door is closed (nbd.listen is empty)"};
  }
  const uint32_t limit = bounded(request->limit());
  const absl::StatusOr<blockdev::ExportList> exports = parts_.nbd->exports(limit + 1);
  if (!exports.ok()) return to_grpc(exports.status());
  size_t answer_bytes = 0;
  for (const blockdev::Export& each : exports->exports) {
    constexpr size_t kOverhead = 24;
    answer_bytes += each.name.size() + kOverhead;
    if (response->exports_size() == static_cast<int>(limit) || answer_bytes > kMaxAnswerBytes) {
      response->set_truncated(true);
      break;
    }
    v1::ExportsResponse::Export* out = response->add_exports();
    out->set_name(each.name);
    out->set_size(each.size_bytes);
    out->set_read_only(each.read_only);
  }
  for (const std::string& missing : exports->left_out) response->add_left_out(missing);
  for (const base::ListenAddress& address : parts_.nbd->addresses()) {
    response->add_listeners(address.to_string());
  }
  return grpc::Status::OK;
}

}  // namespace

AdminService::AdminService(AdminParts parts)
    : service_(std::make_unique<AdminServiceImpl>(std::move(parts))) {}

AdminService::~AdminService() = default;

grpc::Service& AdminService::service() { return *service_; }

}  // namespace blobcache::server
