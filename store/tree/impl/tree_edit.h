#pragma once

#include <sys/types.h>

#include <cstdint>
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

/// What follows from a durable change. Value type.
struct Effects {
  std::vector<NameChange> names;      ///< for the listeners
  std::vector<int64_t> renamed;       ///< blobs with more or fewer names, for their descriptions
  std::vector<BlobRow> removed;       ///< whose files the page store must remove
  uint64_t cached_to_kept_bytes = 0;  ///< for the page store's accounts
  uint64_t kept_to_cached_bytes = 0;
};

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

/// Forgets a blob that no name holds.
[[nodiscard]] absl::Status remove_blob(CatalogWriter& catalog, const page::ObjectKey& key,
                                       Effects& effects);

/// A blob that is here was put again without a name: it is kept for unnamed_ttl from `now`.
[[nodiscard]] absl::Status keep_unnamed(CatalogWriter& catalog, const BlobRow& blob, absl::Time now,
                                        Effects& effects);

/// Blobs without a name since `before` or longer become cached.
[[nodiscard]] absl::Status expire_unnamed(CatalogWriter& catalog, absl::Time before,
                                          Effects& effects);

/// Gives up cached blobs, the longest unnamed first, until `bytes` of disk are reached, at most
/// `limit` of them. Those that `in_use` names come last: their space is not free before their
/// readers close them.
[[nodiscard]] absl::Status reclaim_cached(CatalogWriter& catalog, uint64_t bytes, size_t limit,
                                          absl::FunctionRef<bool(const BlobRow&)> in_use,
                                          Effects& effects);

}  // namespace blobcache::tree
