#include "server/impl/volume_calls.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "server/impl/progress_stream.h"

namespace blobcache::server {
namespace {

/// Who administers may make and replace anything; what he makes belongs to the daemon's user.
tree::Creator administrator() { return {::geteuid(), ::getegid(), tree::MayReplace::kAll}; }

void fill(const tree::VolumeInfo& volume, v1::Volume& out) {
  out.set_name(volume.name);
  out.set_size(volume.size_bytes);
  if (volume.base) out.set_base(volume.base->bytes.data(), volume.base->bytes.size());
  out.set_created_ns(absl::ToUnixNanos(volume.created));
  out.set_own_bytes(volume.own_bytes);
  out.set_in_use(volume.in_use);
  out.set_read_only(volume.read_only);
  out.set_origin_base(volume.origin_base);
  out.set_id(volume.incarnation.bytes.data(), volume.incarnation.bytes.size());
}

/// Passes on how far a commit or a copy is.
template <typename Response>
class ToldCommit final : public tree::CommitWatcher {
 public:
  ToldCommit(grpc::ServerContext& context, grpc::ServerWriter<Response>& writer)
      : stream_(context, writer) {}

  bool on_progress(uint64_t done_bytes, uint64_t total_bytes) override {
    return stream_.tell(done_bytes, total_bytes);
  }

 private:
  ProgressStream<Response> stream_;
};

}  // namespace

absl::Status serve_create(tree::Volumes& volumes, const v1::CreateVolumeRequest& request,
                          v1::CreateVolumeResponse& response) {
  BLOBCACHE_ASSIGN_OR_RETURN(
      const tree::VolumeInfo volume,
      volumes.create(request.name(), request.size(), request.base(), administrator()));
  fill(volume, *response.mutable_volume());
  return absl::OkStatus();
}

absl::Status serve_list(tree::Volumes& volumes, v1::ListVolumesResponse& response) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<tree::VolumeInfo> all, volumes.list());
  for (const tree::VolumeInfo& volume : all) fill(volume, *response.add_volumes());
  const tree::VolumeUsage usage = volumes.usage();
  response.set_used(usage.used_bytes);
  response.set_budget(usage.budget_bytes);
  return absl::OkStatus();
}

absl::Status serve_resize(tree::Volumes& volumes, blockdev::UblkDevices& ublk,
                          const v1::ResizeVolumeRequest& request,
                          v1::ResizeVolumeResponse& response) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::VolumeInfo volume,
                             volumes.resize(request.name(), request.size()));
  fill(volume, *response.mutable_volume());
  for (const blockdev::UblkGrowth& device : ublk.grow("volumes/" + volume.name)) {
    v1::ResizeVolumeResponse::UblkDevice* const out = response.add_ublk_devices();
    out->set_id(device.id);
    out->set_trouble(std::string(base::message(device.status)));
  }
  return absl::OkStatus();
}

absl::Status serve_commit(tree::Volumes& volumes, grpc::ServerContext& context,
                          const v1::CommitVolumeRequest& request,
                          grpc::ServerWriter<v1::CommitVolumeResponse>& writer) {
  ToldCommit<v1::CommitVolumeResponse> stream(context, writer);
  BLOBCACHE_ASSIGN_OR_RETURN(
      const tree::CommittedBlob blob,
      volumes.commit(request.name(), request.bind(), administrator(), stream));
  v1::CommitVolumeResponse last;
  last.mutable_blob()->set_digest(blob.key.bytes.data(), blob.key.bytes.size());
  last.mutable_blob()->set_size(blob.size_bytes);
  last.mutable_blob()->set_existed(blob.existed);
  writer.Write(last);
  return absl::OkStatus();
}

absl::Status serve_copy(tree::Volumes& volumes, grpc::ServerContext& context,
                        const v1::CopyVolumeRequest& request,
                        grpc::ServerWriter<v1::CopyVolumeResponse>& writer) {
  ToldCommit<v1::CopyVolumeResponse> stream(context, writer);
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::VolumeInfo volume,
                             volumes.copy(request.name(), request.new_name(), request.snapshot(),
                                          administrator(), stream));
  v1::CopyVolumeResponse last;
  fill(volume, *last.mutable_volume());
  writer.Write(last);
  return absl::OkStatus();
}

}  // namespace blobcache::server
