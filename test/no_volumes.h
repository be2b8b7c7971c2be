#pragma once

#include <string_view>
#include <vector>

#include "store/tree/volumes.h"

namespace blobcache::tree {

/// For trees of tests that have no volumes: none is there, and none can be made.
class NoVolumes : public Volumes {
 public:
  absl::StatusOr<VolumeInfo> create(std::string_view /*name*/, uint64_t /*size_bytes*/,
                                    std::string_view /*base_path*/,
                                    const Creator& /*creator*/) override {
    return absl::UnimplementedError("no volumes here");
  }
  absl::Status remove(std::string_view /*name*/) override {
    return absl::NotFoundError("no volumes here");
  }
  absl::StatusOr<std::vector<VolumeInfo>> list() override { return std::vector<VolumeInfo>(); }
  [[nodiscard]] VolumeUsage usage() const override { return {}; }
  absl::StatusOr<VolumeRef> open(NodeId /*node*/) override {
    return absl::NotFoundError("no volumes here");
  }
  absl::StatusOr<VolumeInfo> resize(std::string_view /*name*/, uint64_t /*size_bytes*/) override {
    return absl::NotFoundError("no volumes here");
  }
  absl::StatusOr<CommittedBlob> commit(std::string_view /*name*/, std::string_view /*bind_path*/,
                                       const Creator& /*creator*/,
                                       CommitWatcher& /*watcher*/) override {
    return absl::NotFoundError("no volumes here");
  }
  absl::StatusOr<VolumeInfo> copy(std::string_view /*name*/, std::string_view /*new_name*/,
                                  bool /*snapshot*/, const Creator& /*creator*/,
                                  CommitWatcher& /*watcher*/) override {
    return absl::NotFoundError("no volumes here");
  }
};

}  // namespace blobcache::tree
