#include "store/tree/impl/name_steps.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr mode_t kModeBits = 07777;
constexpr mode_t kSymlinkMode = 0777;

absl::Status step_error(int error, std::string_view name, std::string_view why) {
  return base::posix_error(error, fmt::format("{}: {}", printable(name), why));
}

absl::Status outside_files(NodeId node, int error) {
  return base::posix_error(
      error, fmt::format("node {}: not beneath files/, where names can be changed", node));
}

/// The entry, which must be there.
absl::StatusOr<EntryRow> entry_of(CatalogReader& catalog, int64_t parent, std::string_view name) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<EntryRow> entry, catalog.find_entry(parent, name));
  if (!entry) return no_entry(name);
  return *std::move(entry);
}

/// The row of a node that is beneath files/, or files/ itself; `outside` for others.
absl::StatusOr<FileRow> row_beneath_files(CatalogReader& catalog, NodeId node, int outside) {
  const bool fixed = node <= kLastFixedNode && node != kFilesNode;
  const int64_t id = file_of_node(node);
  if (fixed || id == 0) return outside_files(node, outside);
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<FileRow> row, catalog.find_file(id));
  if (!row) {
    return base::posix_error(ENOENT, fmt::format("node {}: removed or replaced", node));
  }
  if (row->kind == FileKind::kVolume) return outside_files(node, outside);
  return *std::move(row);
}

}  // namespace

absl::Status no_entry(std::string_view name) {
  return step_error(ENOENT, name, "no such file or directory");
}

absl::Status check_entry_name(std::string_view name) {
  const absl::Status status = check_name(name);
  if (status.ok()) return status;
  return base::posix_error(name.size() > kMaxNameBytes ? ENAMETOOLONG : EINVAL,
                           base::message(status));
}

absl::StatusOr<FileRow> directory_beneath_files(CatalogReader& catalog, NodeId node, int outside) {
  BLOBCACHE_ASSIGN_OR_RETURN(FileRow row, row_beneath_files(catalog, node, outside));
  if (row.kind != FileKind::kDirectory) {
    return base::posix_error(ENOTDIR, fmt::format("node {}: not a directory", node));
  }
  return row;
}

absl::StatusOr<FileRow> add_name(CatalogWriter& catalog, const NewName& name, FileRow row,
                                 absl::Time now, Effects& effects) {
  BLOBCACHE_RETURN_IF_ERROR(check_entry_name(name.name));
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow parent,
                             directory_beneath_files(catalog, name.parent, EPERM));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> taken,
                             catalog.find_entry(parent.id, name.name));
  if (taken) return step_error(EEXIST, name.name, "is there already");
  row.mode = name.mode & kModeBits;
  row.uid = name.uid;
  row.gid = name.gid;
  // Of a directory with set-group-ID, what is made in it has the group, and directories the bit.
  if ((parent.mode & S_ISGID) != 0) {
    row.gid = parent.gid;
    if (row.kind == FileKind::kDirectory) row.mode |= S_ISGID;
  }
  row.modified = row.changed = now;
  row.links = 1;
  BLOBCACHE_ASSIGN_OR_RETURN(row.id, catalog.insert_file(row));
  BLOBCACHE_RETURN_IF_ERROR(catalog.insert_entry(parent.id, name.name, row.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(parent.id, now));
  effects.names.push_back({name.parent, std::string(name.name)});
  return row;
}

absl::StatusOr<FileRow> add_directory(CatalogWriter& catalog, const NewName& name, absl::Time now,
                                      Effects& effects) {
  FileRow row;
  row.kind = FileKind::kDirectory;
  return add_name(catalog, name, row, now, effects);
}

absl::StatusOr<FileRow> add_symlink(CatalogWriter& catalog, const NewName& name,
                                    std::string_view target, absl::Time now, Effects& effects) {
  if (target.empty()) return step_error(ENOENT, name.name, "a symbolic link that says nothing");
  if (target.size() > kMaxTargetBytes) {
    return step_error(ENAMETOOLONG, name.name, "a symbolic link that says too much");
  }
  FileRow row;
  row.kind = FileKind::kSymlink;
  row.target = target;
  row.size_bytes = target.size();
  NewName link = name;
  link.mode = kSymlinkMode;
  return add_name(catalog, link, std::move(row), now, effects);
}

absl::Status unlink_name(CatalogWriter& catalog, NodeId parent, std::string_view name,
                         absl::Time now, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow directory,
                             directory_beneath_files(catalog, parent, EPERM));
  BLOBCACHE_ASSIGN_OR_RETURN(const EntryRow entry, entry_of(catalog, directory.id, name));
  if (entry.file.kind == FileKind::kDirectory) return step_error(EISDIR, name, "is a directory");
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.gone(entry.file, {directory.id, name}));
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_entry(entry.id));
  BLOBCACHE_RETURN_IF_ERROR(
      drop_unlinked(catalog, entry.file.id, {now, Release::To::kCached}, effects));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(directory.id, now));
  std::move(telling).finish(effects);
  effects.names.push_back({parent, std::string(name)});
  return absl::OkStatus();
}

absl::Status remove_empty_directory(CatalogWriter& catalog, NodeId parent, std::string_view name,
                                    absl::Time now, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow directory,
                             directory_beneath_files(catalog, parent, EPERM));
  BLOBCACHE_ASSIGN_OR_RETURN(const EntryRow entry, entry_of(catalog, directory.id, name));
  if (entry.file.kind != FileKind::kDirectory) return step_error(ENOTDIR, name, "not a directory");
  BLOBCACHE_ASSIGN_OR_RETURN(const bool occupied, catalog.has_entries(entry.file.id));
  if (occupied) return step_error(ENOTEMPTY, name, "the directory is not empty");
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_entry(entry.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_file(entry.file.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(directory.id, now));
  effects.names.push_back({parent, std::string(name)});
  return absl::OkStatus();
}

absl::StatusOr<FileRow> link_file(CatalogWriter& catalog, NodeId file, NodeId parent,
                                  std::string_view name, absl::Time now, Effects& effects) {
  BLOBCACHE_RETURN_IF_ERROR(check_entry_name(name));
  BLOBCACHE_ASSIGN_OR_RETURN(FileRow row, row_beneath_files(catalog, file, EXDEV));
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow directory,
                             directory_beneath_files(catalog, parent, EXDEV));
  if (row.kind == FileKind::kDirectory) {
    return step_error(EPERM, name, "a directory has one name only");
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> taken,
                             catalog.find_entry(directory.id, name));
  if (taken) return step_error(EEXIST, name, "is there already");
  if (row.links >= kMaxLinks) return step_error(EMLINK, name, "its file has too many names");
  BLOBCACHE_RETURN_IF_ERROR(catalog.insert_entry(directory.id, name, row.id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch_changed(row.id, now));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(directory.id, now));
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.bound(row, {directory.id, name}));
  std::move(telling).finish(effects);
  effects.names.push_back({parent, std::string(name)});
  row.changed = now;
  ++row.links;
  return row;
}

absl::StatusOr<FileRow> change_attributes(CatalogWriter& catalog, NodeId node,
                                          const AttributeChange& change, absl::Time now,
                                          Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(FileRow row, row_beneath_files(catalog, node, EPERM));
  if (change.mode) row.mode = *change.mode & kModeBits;
  row.uid = change.uid.value_or(row.uid);
  row.gid = change.gid.value_or(row.gid);
  row.modified = change.modified.value_or(row.modified);
  row.changed = now;
  BLOBCACHE_RETURN_IF_ERROR(catalog.set_attributes(row));
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.changed(row));
  std::move(telling).finish(effects);
  return row;
}

}  // namespace blobcache::tree
