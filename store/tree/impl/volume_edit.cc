#include "store/tree/impl/volume_edit.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr auto kParent = static_cast<int64_t>(kVolumesNode);

}  // namespace

absl::Status no_such_volume(std::string_view name) {
  return absl::NotFoundError(fmt::format("volumes/{}: no such volume", printable(name)));
}

absl::StatusOr<std::optional<NamedVolume>> find_volume(CatalogReader& catalog,
                                                       std::string_view name) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<EntryRow> entry, catalog.find_entry(kParent, name));
  if (!entry) return std::optional<NamedVolume>();
  std::optional<VolumeRow> row;
  if (entry->file.volume) {
    BLOBCACHE_ASSIGN_OR_RETURN(row, catalog.find_volume(*entry->file.volume));
  }
  if (!row) {
    return absl::DataLossError(fmt::format(
        "volumes/{}: the catalog is damaged: no volume has this name", printable(name)));
  }
  return std::optional<NamedVolume>(NamedVolume{*std::move(entry), *row});
}

absl::StatusOr<NamedVolume> add_volume(CatalogWriter& catalog, std::string_view name, VolumeRow row,
                                       const std::optional<BlobRow>& base, mode_t mode,
                                       const Creator& creator, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> taken,
                             catalog.find_entry(kParent, name));
  if (taken) {
    return absl::AlreadyExistsError(
        fmt::format("volumes/{}: there is a volume of that name", printable(name)));
  }
  row.base = std::nullopt;
  if (base) {
    row.base = base->id;
    BLOBCACHE_RETURN_IF_ERROR(hold_blob(catalog, *base, std::nullopt, effects));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(row.id, catalog.insert_volume(row));
  FileRow file;
  file.kind = FileKind::kVolume;
  file.mode = mode;
  file.uid = creator.uid;
  file.gid = creator.gid;
  file.modified = file.changed = row.created;
  file.links = 1;
  file.volume = row.id;
  file.size_bytes = row.size_bytes;
  BLOBCACHE_ASSIGN_OR_RETURN(file.id, catalog.insert_file(file));
  BLOBCACHE_RETURN_IF_ERROR(catalog.insert_entry(kParent, name, file.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(kParent, row.created));
  effects.names.push_back({kVolumesNode, std::string(name)});
  NamedVolume added;
  added.entry.name = name;
  added.entry.file = file;
  added.volume = row;
  return added;
}

absl::StatusOr<NamedVolume> drop_volume(CatalogWriter& catalog, std::string_view name,
                                        absl::Time now, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<NamedVolume> found, find_volume(catalog, name));
  if (!found) return no_such_volume(name);
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_entry(found->entry.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_file(found->entry.file.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_volume(found->volume.id));
  if (found->volume.base) {
    BLOBCACHE_RETURN_IF_ERROR(release_blob(catalog, *found->volume.base, {now}, effects));
  }
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(kParent, now));
  effects.names.push_back({kVolumesNode, std::string(name)});
  return *std::move(found);
}

}  // namespace blobcache::tree
