#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

// From names, paths and node ids to nodes, and what to say of those that are not there or are of
// another kind than was wanted.

/// What ages a blob without a name. Rows lag behind: what has expired is written there later.
struct Aging {
  absl::Time now;
  absl::Duration unnamed_ttl;
};

[[nodiscard]] Node to_node(const FileRow& row);
[[nodiscard]] Node to_node(const BlobRow& row, const Aging& aging);

/// Blobs are listed by their digests in lower case, so that each has one name.
[[nodiscard]] std::optional<page::ObjectKey> parse_blob_name(std::string_view name);

[[nodiscard]] absl::Status no_such_node(NodeId node);
[[nodiscard]] absl::Status no_such_name(std::string_view name);
[[nodiscard]] absl::Status is_a_directory(std::string_view path, std::string_view hint);
[[nodiscard]] absl::Status is_a_volume(std::string_view path);
[[nodiscard]] absl::Status is_a_symlink(std::string_view path);
[[nodiscard]] absl::Status is_under_writing(std::string_view path);
/// OK for a file that has settled; else which of these it is.
[[nodiscard]] absl::Status check_settled_file(const Node& node, std::string_view path,
                                              std::string_view directory_hint);
[[nodiscard]] absl::Status not_a_directory(std::string_view name);

/// Reads the entry `name` of `parent`, which is a directory if it is there at all.
[[nodiscard]] absl::StatusOr<std::optional<Node>> find_node(CatalogReader& catalog, NodeId parent,
                                                            std::string_view name,
                                                            const Aging& aging);
[[nodiscard]] absl::StatusOr<Node> find_node(CatalogReader& catalog, NodeId node,
                                             const Aging& aging);
/// `path`, split into `names`.
[[nodiscard]] absl::StatusOr<Node> find_node(CatalogReader& catalog, std::string_view path,
                                             const PathNames& names, const Aging& aging);

/// The blob behind a file's path, as its row has it.
[[nodiscard]] absl::StatusOr<BlobRow> find_blob(CatalogReader& catalog, std::string_view path,
                                                const PathNames& names, const Aging& aging);

[[nodiscard]] absl::Status check_directory(CatalogReader& catalog, NodeId node, const Aging& aging);

}  // namespace blobcache::tree
