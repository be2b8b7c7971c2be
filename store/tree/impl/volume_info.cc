// The part of the volumes that tells about them, without opening any.

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/volume_set.h"

namespace blobcache::tree {
namespace {

constexpr size_t kInfoBatch = 256;

}  // namespace

uint64_t VolumeSet::own_bytes(int64_t volume, const VolumeRef& open) {
  if (open != nullptr) return open->stats().data_bytes;
  const absl::MutexLock lock(&mutex_);
  const auto at = idle_bytes_.find(volume);
  return at == idle_bytes_.end() ? 0 : at->second;
}

std::optional<uint64_t> VolumeSet::allocated_bytes(NodeId node) {
  std::optional<VolumeRow> row;
  {
    Catalog::Lease catalog = catalog_.read();
    const auto file = catalog->find_file(file_of_node(node));
    if (!file.ok() || !*file || !(*file)->volume) return std::nullopt;
    const auto found = catalog->find_volume(*(*file)->volume);
    if (found.ok()) row = *found;
  }
  if (!row) return std::nullopt;
  // Never none: an archiver takes such a file for zeros, and may have been told so a moment before
  // somebody wrote to it by another door.
  return std::max(own_bytes(row->id, table_.find(row->id)), page::kPageSize);
}

absl::StatusOr<VolumeInfo> VolumeSet::describe(const NamedVolume& found) {
  VolumeInfo info;
  info.name = found.entry.name;
  info.node = static_cast<NodeId>(found.entry.file.id);
  info.size_bytes = found.volume.size_bytes;
  info.created = found.volume.created;
  info.read_only = found.entry.file.mode == kSnapshotMode;
  if (found.volume.origin_base) info.origin_base = path_of(*found.volume.origin_base);
  info.incarnation = found.volume.incarnation;
  if (found.volume.base) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> base,
                               catalog_.read()->find_blob_by_id(*found.volume.base));
    if (base) info.base = base->key;
  }
  const VolumeRef open = table_.find(found.volume.id);
  info.in_use = open != nullptr;
  info.own_bytes = own_bytes(found.volume.id, open);
  return info;
}

absl::StatusOr<std::vector<VolumeInfo>> VolumeSet::list() {
  std::vector<VolumeInfo> volumes;
  for (int64_t after = 0;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(
        const std::vector<EntryRow> entries,
        catalog_.read()->list_entries(static_cast<int64_t>(kVolumesNode), after, kInfoBatch));
    if (entries.empty()) return volumes;
    after = entries.back().id;
    for (const EntryRow& entry : entries) {
      const absl::StatusOr<NamedVolume> found = find(entry);
      if (absl::IsNotFound(found.status())) continue;  // removed since
      BLOBCACHE_RETURN_IF_ERROR(found.status());
      BLOBCACHE_ASSIGN_OR_RETURN(VolumeInfo info, describe(*found));
      volumes.push_back(std::move(info));
    }
  }
}

VolumeUsage VolumeSet::usage() const { return {budget_.used_bytes(), budget_.limit_bytes()}; }

}  // namespace blobcache::tree
