#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/name_telling.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/name_editor.h"

namespace blobcache::tree {

// The steps that change names beneath files/ by directory and name, as a file system makes them;
// see tree_edit.h for what a step is and name_editor.h for what each one does. Errors carry the
// errno that the system call would give.

/// So many names a file has at most.
inline constexpr uint32_t kMaxLinks = 65'000;

/// The directory of a node beneath files/, or files/ itself. ENOENT, ENOTDIR; `outside` for one
/// that is somewhere else.
[[nodiscard]] absl::StatusOr<FileRow> directory_beneath_files(CatalogReader& catalog, NodeId node,
                                                              int outside);

/// Adds `row`, whose kind and content are set, by a new name; takes mode and owner from that.
/// Returns the row as it is then. EEXIST, ENAMETOOLONG, EINVAL.
[[nodiscard]] absl::StatusOr<FileRow> add_name(CatalogWriter& catalog, const NewName& name,
                                               FileRow row, absl::Time now, Effects& effects);

[[nodiscard]] absl::StatusOr<FileRow> add_directory(CatalogWriter& catalog, const NewName& name,
                                                    absl::Time now, Effects& effects);
[[nodiscard]] absl::StatusOr<FileRow> add_symlink(CatalogWriter& catalog, const NewName& name,
                                                  std::string_view target, absl::Time now,
                                                  Effects& effects);
[[nodiscard]] absl::Status unlink_name(CatalogWriter& catalog, NodeId parent, std::string_view name,
                                       absl::Time now, Effects& effects);
[[nodiscard]] absl::Status remove_empty_directory(CatalogWriter& catalog, NodeId parent,
                                                  std::string_view name, absl::Time now,
                                                  Effects& effects);
[[nodiscard]] absl::StatusOr<FileRow> link_file(CatalogWriter& catalog, NodeId file, NodeId parent,
                                                std::string_view name, absl::Time now,
                                                Effects& effects);
[[nodiscard]] absl::StatusOr<FileRow> change_attributes(CatalogWriter& catalog, NodeId node,
                                                        const AttributeChange& change,
                                                        absl::Time now, Effects& effects);

/// What a rename is about. Value type; borrows the names.
struct RenameRequest {
  NodeId from = 0;
  std::string_view name;
  NodeId to = 0;
  std::string_view new_name;
  RenameMode mode = RenameMode::kReplace;
};
[[nodiscard]] absl::Status rename_name(CatalogWriter& catalog, const RenameRequest& request,
                                       absl::Time now, Effects& effects);

/// ENOENT for `name`, printed.
[[nodiscard]] absl::Status no_entry(std::string_view name);
/// ENAMETOOLONG or EINVAL for what cannot be a name.
[[nodiscard]] absl::Status check_entry_name(std::string_view name);

}  // namespace blobcache::tree
