#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// What a volume is laid over, open. Value type.
struct VolumeBase {
  page::ObjectRef object;
  page::ObjectKey key;
  std::optional<OriginBase> origin;  ///< absent for a blob
};

/// Finds what volumes are laid over: a blob, which the volume holds, or one version of an origin's
/// file, of which there may be another by the time the volume is opened. `names` is where, and may
/// not be whole yet. Thread-safe; calls may wait for an origin.
class VolumeBases {
 public:
  explicit VolumeBases(Namespace& names) : names_(names) {}

  /// What a new volume is to be laid over: "files/...", "blobs/HEX" or "origins/...".
  /// FAILED_PRECONDITION for what cannot be a base, with the reason.
  [[nodiscard]] absl::StatusOr<VolumeBase> find(std::string_view path);

  /// The base of a volume that is there; a null object for one that is over zeros.
  /// FAILED_PRECONDITION when it is an origin's, and the origin, the path or that version of it is
  /// gone; else the origin's error.
  [[nodiscard]] absl::StatusOr<VolumeBase> open(const VolumeRow& row);

 private:
  [[nodiscard]] absl::StatusOr<VolumeBase> open_origin(const OriginBase& base);

  Namespace& names_;
};

/// The path of an origin's file, in the tree.
[[nodiscard]] std::string path_of(const OriginBase& base);

}  // namespace blobcache::tree
