#pragma once

#include <sys/types.h>

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/tree_edit.h"

namespace blobcache::tree {

// The steps that change which volumes there are; see tree_edit.h. A volume's base is held by the
// volume, as by a name.

/// A volume with its name and node. Value type.
struct NamedVolume {
  EntryRow entry;
  VolumeRow volume;
};

/// The volume called `name`, "volumes/NAME" without its folder; nullopt: none is.
[[nodiscard]] absl::StatusOr<std::optional<NamedVolume>> find_volume(CatalogReader& catalog,
                                                                     std::string_view name);

/// NOT_FOUND, for whoever asked for "volumes/NAME".
[[nodiscard]] absl::Status no_such_volume(std::string_view name);

/// The modes of volumes and of their snapshots, which nobody may write.
inline constexpr mode_t kVolumeMode = 0600;
inline constexpr mode_t kSnapshotMode = 0400;

/// Adds `row` (whose id is ignored) as volumes/NAME with this mode, belonging to `creator`, and
/// holds its base, whose row it must be. ALREADY_EXISTS when the name is taken.
[[nodiscard]] absl::StatusOr<NamedVolume> add_volume(CatalogWriter& catalog, std::string_view name,
                                                     VolumeRow row,
                                                     const std::optional<BlobRow>& base,
                                                     mode_t mode, const Creator& creator,
                                                     Effects& effects);

/// Removes the volume and its name, and lets go of its base. Returns what it was. NOT_FOUND.
[[nodiscard]] absl::StatusOr<NamedVolume> drop_volume(CatalogWriter& catalog, std::string_view name,
                                                      absl::Time now, Effects& effects);

}  // namespace blobcache::tree
