#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"
#include "store/tree/blob_writer.h"
#include "store/tree/namespace.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

/// A volume as the tree has it. Value type.
struct VolumeInfo {
  std::string name;  ///< without "volumes/"
  NodeId node = 0;
  uint64_t size_bytes = 0;
  std::optional<page::ObjectKey> base;  ///< the blob that it is laid over
  std::string origin_base;              ///< or the path of an origin's file; else empty
  absl::Time created;
  uint64_t own_bytes = 0;         ///< its own pages: what it takes of the volumes' budget
  bool in_use = false;            ///< somebody has it open
  bool read_only = false;         ///< a snapshot
  page::Incarnation incarnation;  ///< tells it from all other volumes, of other stores as well
};

/// What all volumes of a store take together, and may. Value type.
struct VolumeUsage {
  uint64_t used_bytes = 0;
  uint64_t budget_bytes = 0;
};

/// Somebody's hold on a volume that is open: the volume is closed, all of it on stable storage,
/// when the last one lets go, on that one's thread, which then waits for the disk.
using VolumeRef = std::shared_ptr<volume::Volume>;

/// Learns how far a commit or a copy is. Called on the thread that makes it.
class CommitWatcher {
 public:
  virtual ~CommitWatcher() = default;
  /// So many bytes of the image are through. False: it is to end.
  [[nodiscard]] virtual bool on_progress(uint64_t done_bytes, uint64_t total_bytes) = 0;
};

/// The volumes of a store: writable images, "volumes/<name>". The folder of each is made and synced
/// before the catalog's row that makes it visible, and removed after that row is gone: a kill in
/// between leaves a folder that no row knows, which the next start removes.
///
/// Names are those of files (tree::check_name); INVALID_ARGUMENT otherwise. NOT_FOUND for a volume
/// that is not there. Thread-safe; calls wait for the catalog and the disk.
class Volumes {
 public:
  virtual ~Volumes() = default;

  /// A new volume of zeros, or laid over a base: `base_path`, a file or blob ("files/...",
  /// "blobs/HEX"), which is kept for as long as the volume is there, or an origin's file
  /// ("origins/..."), or "". `size_bytes` is a multiple of 512 and not below the base's size, or 0:
  /// the base's, rounded up to one.
  ///
  /// ALREADY_EXISTS; INVALID_ARGUMENT for a size that cannot be; FAILED_PRECONDITION for a base
  /// that is a directory or an image, an origin's file without a strong validator, or a qcow2
  /// image, which as it is would be no disk; else the origin's error.
  [[nodiscard]] virtual absl::StatusOr<VolumeInfo> create(std::string_view name,
                                                          uint64_t size_bytes,
                                                          std::string_view base_path,
                                                          const Creator& creator) = 0;

  /// Removes the volume and all that was written to it. FAILED_PRECONDITION while it is in use.
  [[nodiscard]] virtual absl::Status remove(std::string_view name) = 0;

  [[nodiscard]] virtual absl::StatusOr<std::vector<VolumeInfo>> list() = 0;

  [[nodiscard]] virtual VolumeUsage usage() const = 0;

  /// The volume behind a node. FAILED_PRECONDITION when it is laid over a version of an origin's
  /// file that is gone, and the origin's error when it is away.
  [[nodiscard]] virtual absl::StatusOr<VolumeRef> open(NodeId node) = 0;

  /// Makes it larger; what is new reads as zeros. INVALID_ARGUMENT for a size that is smaller.
  [[nodiscard]] virtual absl::StatusOr<VolumeInfo> resize(std::string_view name,
                                                          uint64_t size_bytes) = 0;

  /// Makes a blob of what the volume holds at one moment, all writes completed by then and none
  /// that comes later, and binds `bind_path` to it unless that is ""; the volume stays in use.
  /// Errors as Namespace::put(); CANCELLED when `watcher` ends it.
  [[nodiscard]] virtual absl::StatusOr<CommittedBlob> commit(std::string_view name,
                                                             std::string_view bind_path,
                                                             const Creator& creator,
                                                             CommitWatcher& watcher) = 0;

  /// Makes another volume over the same base with what this one holds at one moment, as of a
  /// commit; with `snapshot` one that nobody can write to. What is the volume's own is copied, and
  /// charged to the budget. Errors as create(), RESOURCE_EXHAUSTED, CANCELLED.
  [[nodiscard]] virtual absl::StatusOr<VolumeInfo> copy(std::string_view name,
                                                        std::string_view new_name, bool snapshot,
                                                        const Creator& creator,
                                                        CommitWatcher& watcher) = 0;
};

}  // namespace blobcache::tree
