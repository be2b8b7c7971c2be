#include "store/tree/impl/name_edits.h"

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/name_steps.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"

namespace blobcache::tree {

namespace {

bool changes(const AttributeChange& change, const FileRow& row) {
  return (change.mode && *change.mode != row.mode) || (change.uid && *change.uid != row.uid) ||
         (change.gid && *change.gid != row.gid) ||
         (change.modified && *change.modified != row.modified);
}

}  // namespace

absl::StatusOr<Node> NameEdits::run(Step step) {
  FileRow row;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(row, step(catalog, clock_(), effects));
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(edits_.run_later(edit).status());
  return to_node(row);
}

absl::StatusOr<Node> NameEdits::make_directory(const NewName& name) {
  return run([&](CatalogWriter& catalog, absl::Time now, Effects& effects) {
    return add_directory(catalog, name, now, effects);
  });
}

absl::StatusOr<Node> NameEdits::make_symlink(const NewName& name, std::string_view target) {
  return run([&](CatalogWriter& catalog, absl::Time now, Effects& effects) {
    return add_symlink(catalog, name, target, now, effects);
  });
}

absl::StatusOr<std::string> NameEdits::read_symlink(NodeId node) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<FileRow> row,
                             catalog_.read()->find_file(file_of_node(node)));
  if (row && row->kind == FileKind::kSymlink) return std::move(row->target);
  // A node that is no row of `file` is there all the same, and none.
  if (!row && file_of_node(node) != 0) {
    return base::posix_error(ENOENT, fmt::format("node {}: removed or replaced", node));
  }
  return base::posix_error(EINVAL, fmt::format("node {}: is no symbolic link", node));
}

absl::Status NameEdits::remove_file(NodeId parent, std::string_view name) {
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
    return unlink_name(catalog, parent, name, clock_(), effects);
  };
  return ballast_.with_room([&] { return edits_.run_later(edit).status(); });
}

absl::Status NameEdits::remove_directory(NodeId parent, std::string_view name) {
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
    return remove_empty_directory(catalog, parent, name, clock_(), effects);
  };
  return ballast_.with_room([&] { return edits_.run_later(edit).status(); });
}

absl::Status NameEdits::rename(NodeId from, std::string_view name, NodeId to,
                               std::string_view new_name, RenameMode mode) {
  const RenameRequest request{from, name, to, new_name, mode};
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
    return rename_name(catalog, request, clock_(), effects);
  };
  return edits_.run_later(edit).status();
}

absl::StatusOr<Node> NameEdits::link(NodeId file, NodeId parent, std::string_view name) {
  return run([&](CatalogWriter& catalog, absl::Time now, Effects& effects) {
    return link_file(catalog, file, parent, name, now, effects);
  });
}

absl::StatusOr<Node> NameEdits::set_attributes(NodeId node, const AttributeChange& change) {
  // Who unpacks or copies says again what is so already, file by file.
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row,
                             catalog_.read()->find_file(file_of_node(node)));
  if (row && !changes(change, *row)) return to_node(*row);
  return run([&](CatalogWriter& catalog, absl::Time now, Effects& effects) {
    return change_attributes(catalog, node, change, now, effects);
  });
}

absl::Status NameEdits::sync() { return catalog_.sync(); }

}  // namespace blobcache::tree
