#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

// The steps that change the tree, each whole in itself: names, blobs, retention and times stay in
// accord. They decide and write tables, and nothing else: what the rest of the node must do once
// the transaction is durable is collected in Effects. A step that fails leaves its transaction to
// be undone.

/// What names that are bound have for a mode.
inline constexpr mode_t kFileMode = 0644;

/// Names along a path, from the root. The views are borrowed.
using PathNames = std::vector<std::string_view>;

struct NameChange {
  NodeId parent = 0;
  std::string name;
};

/// What a blob's description must tell from now on. Value type.
struct DescriptionChange {
  enum class Kind : uint8_t {
    kBound,   ///< the blob has a new name
    kGone,    ///< it has lost the name `name.path`
    kMoved,   ///< it has a new copy; what was told of the former one is told of this one
    kPinned,  ///< it is pinned now, or no more
    kOther,   ///< too much to be told one by one: the catalog has the say
  };
  Kind kind = Kind::kBound;
  int64_t blob = 0;
  page::ObjectKey key;
  page::Incarnation incarnation;  ///< of the copy that the change is about
  uint64_t size_bytes = 0;
  bool pinned = false;  ///< from then on
  DescribedName name;
  page::Incarnation moved_from;
};

/// `kind` of change of the blob, without its name.
[[nodiscard]] DescriptionChange describe_change(DescriptionChange::Kind kind, const BlobRow& blob);

/// A file whose row is gone with its last name. Value type.
struct GoneFile {
  NodeId node = 0;
  std::optional<VolumeRow> volume;  ///< of one under writing; its row is gone, too
};

/// What follows from a durable change. Value type.
struct Effects {
  std::vector<NameChange> names;        ///< for the listeners
  std::vector<DescriptionChange> told;  ///< for the blobs' descriptions, one after the other
  std::vector<BlobRow> removed;         ///< whose files the page store must remove
  std::vector<GoneFile> gone_files;     ///< for who has them open, and keeps their volumes
  /// Directories that went to other places with more beneath them than `told` should have.
  std::vector<int64_t> moved_directories;
  uint64_t cached_to_kept_bytes = 0;  ///< for the page store's accounts
  uint64_t kept_to_cached_bytes = 0;
};

/// Keeps a blob that a name or a volume holds from now on (`since` absent), or that nothing holds
/// since `since`.
[[nodiscard]] absl::Status hold_blob(CatalogWriter& catalog, const BlobRow& blob,
                                     std::optional<absl::Time> since, Effects& effects);

/// What becomes of a blob that has lost the last that held it, unless it is pinned. Value type.
struct Release {
  enum class To : uint8_t {
    kUnnamed,  ///< kept for unnamed_ttl from `now`: a name was removed or bound anew by a command
    kCached,   ///< cached from now on: a program removed or rewrote a file, and wants the room
  };
  absl::Time now;
  To to = To::kUnnamed;
};

/// A name or volume that held `blob` is gone.
[[nodiscard]] absl::Status release_blob(CatalogWriter& catalog, int64_t blob,
                                        const Release& release, Effects& effects);

/// Drops the row of the volume of a file under writing, and lets go of its base; the file's row
/// must not name it any more. Returns what it was.
[[nodiscard]] absl::StatusOr<std::optional<VolumeRow>> drop_content_volume(CatalogWriter& catalog,
                                                                           int64_t volume,
                                                                           const Release& release,
                                                                           Effects& effects);

/// `file` has lost an entry: without another one it goes, and with it what it held. What is told of
/// the name is the caller's.
[[nodiscard]] absl::Status drop_unlinked(CatalogWriter& catalog, int64_t file,
                                         const Release& release, Effects& effects);

/// INVALID_ARGUMENT for the root, PERMISSION_DENIED for a path that is not beneath files/.
[[nodiscard]] absl::Status check_bindable(const PathNames& path);

/// PERMISSION_DENIED, naming `path` and who may, unless `creator` may bind anew a name whose file
/// belongs to `owner`.
[[nodiscard]] absl::Status check_replaceable(std::string_view path, uid_t owner,
                                             const Creator& creator);

/// Binds files/... to `blob`, making parent directories and replacing the file that the name meant.
/// Returns the new file. FAILED_PRECONDITION when a file is where a directory is wanted or the
/// reverse; else as check_replaceable().
[[nodiscard]] absl::StatusOr<FileRow> bind_path(CatalogWriter& catalog, const PathNames& path,
                                                const BlobRow& blob, const Creator& creator,
                                                absl::Time now, Effects& effects);

/// Removes a name under files/. A blob that loses its last name is kept for unnamed_ttl from `now`.
[[nodiscard]] absl::Status remove_name(CatalogWriter& catalog, const PathNames& path,
                                       absl::Time now, Effects& effects);

/// Forgets a blob that no name holds and that is not pinned: FAILED_PRECONDITION with what does.
[[nodiscard]] absl::Status remove_blob(CatalogWriter& catalog, const page::ObjectKey& key,
                                       Effects& effects);

/// A blob that is here was put again without a name: it is kept for unnamed_ttl from `now`.
[[nodiscard]] absl::Status keep_unnamed(CatalogWriter& catalog, const BlobRow& blob, absl::Time now,
                                        Effects& effects);

/// Keeps a blob until it is unpinned, whatever becomes of its names. One that is pinned stays so.
[[nodiscard]] absl::Status pin_blob(CatalogWriter& catalog, const BlobRow& blob, Effects& effects);

/// Lets a pinned blob go: without a name it is kept for unnamed_ttl from `now`. Any other one stays
/// as it is.
[[nodiscard]] absl::Status unpin_blob(CatalogWriter& catalog, const BlobRow& blob, absl::Time now,
                                      Effects& effects);

/// Forgets a cached blob. FAILED_PRECONDITION, with what keeps it, for a kept one.
[[nodiscard]] absl::Status evict_blob(CatalogWriter& catalog, BlobRow blob,
                                      absl::Duration unnamed_ttl, Effects& effects);

/// Blobs that are not pinned and have had no name since `before` or longer become cached.
[[nodiscard]] absl::Status expire_unnamed(CatalogWriter& catalog, absl::Time before,
                                          Effects& effects);

/// Forgets blobs of one retention that are not pinned and have had no name since `before` or
/// longer, from the first one after `after`, at most `limit`.
[[nodiscard]] absl::Status forget_unnamed(CatalogWriter& catalog, page::Retention retention,
                                          const UnnamedCursor& after, absl::Time before,
                                          size_t limit, Effects& effects);

/// Gives up cached blobs, the longest unnamed first, until `bytes` of disk are reached, at most
/// `limit` of them. Those that `in_use` names stay: to forget them would free nothing before their
/// readers close them.
[[nodiscard]] absl::Status reclaim_cached(CatalogWriter& catalog, uint64_t bytes, size_t limit,
                                          absl::FunctionRef<bool(const BlobRow&)> in_use,
                                          Effects& effects);

}  // namespace blobcache::tree
