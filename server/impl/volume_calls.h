#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/status/status.h"
#include "blobcache.grpc.pb.h"
#include "blockdev/ublk_devices.h"
#include "store/tree/volumes.h"

namespace blobcache::server {

// The calls of blobcache.v1.Admin that are about volumes.

[[nodiscard]] absl::Status serve_create(tree::Volumes& volumes,
                                        const v1::CreateVolumeRequest& request,
                                        v1::CreateVolumeResponse& response);
[[nodiscard]] absl::Status serve_list(tree::Volumes& volumes, v1::ListVolumesResponse& response);
/// `ublk` serves volumes, too.
[[nodiscard]] absl::Status serve_resize(tree::Volumes& volumes, blockdev::UblkDevices& ublk,
                                        const v1::ResizeVolumeRequest& request,
                                        v1::ResizeVolumeResponse& response);
/// A caller who goes ends the commit.
[[nodiscard]] absl::Status serve_commit(tree::Volumes& volumes, grpc::ServerContext& context,
                                        const v1::CommitVolumeRequest& request,
                                        grpc::ServerWriter<v1::CommitVolumeResponse>& writer);
/// The same.
[[nodiscard]] absl::Status serve_copy(tree::Volumes& volumes, grpc::ServerContext& context,
                                      const v1::CopyVolumeRequest& request,
                                      grpc::ServerWriter<v1::CopyVolumeResponse>& writer);

}  // namespace blobcache::server
