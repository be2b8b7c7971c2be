#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/name_steps.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

/// Deeper than any tree; directories that lie in one another would go on for ever.
constexpr int kMaxDepth = 1'000'000;

/// A rename with what is at both of its ends. `source` and `target` borrow nothing.
struct Rename {
  Place from;
  Place to;
  EntryRow source;
  std::optional<EntryRow> target;
  RenameMode mode = RenameMode::kReplace;
};

absl::Status rename_error(int error, std::string_view name, std::string_view why) {
  return base::posix_error(error, fmt::format("{}: {}", printable(name), why));
}

bool names_directory(const EntryRow& entry) { return entry.file.kind == FileKind::kDirectory; }

/// Whether `directory` is `other` or somewhere beneath it.
absl::StatusOr<bool> is_within(CatalogReader& catalog, int64_t directory, int64_t other) {
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    if (directory == other) return true;
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<int64_t> parent, catalog.parent_of(directory));
    if (!parent) return false;
    directory = *parent;
  }
  return absl::DataLossError("the catalog is damaged: a directory has no place");
}

/// EINVAL for a directory that would come to lie in itself.
absl::Status check_no_loop(CatalogReader& catalog, const EntryRow& moved, const Place& to) {
  if (!names_directory(moved)) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const bool loop, is_within(catalog, to.parent, moved.file.id));
  return loop ? rename_error(EINVAL, moved.name, "a directory cannot lie in itself")
              : absl::OkStatus();
}

absl::Status check_replaced(CatalogReader& catalog, const EntryRow& source,
                            const EntryRow& target) {
  if (names_directory(source) && !names_directory(target)) {
    return rename_error(ENOTDIR, target.name, "not a directory");
  }
  if (!names_directory(target)) return absl::OkStatus();
  if (!names_directory(source)) return rename_error(EISDIR, target.name, "is a directory");
  BLOBCACHE_ASSIGN_OR_RETURN(const bool occupied, catalog.has_entries(target.file.id));
  return occupied ? rename_error(ENOTEMPTY, target.name, "the directory is not empty")
                  : absl::OkStatus();
}

absl::Status check_rename(CatalogReader& catalog, const Rename& rename) {
  if (rename.mode == RenameMode::kNoReplace && rename.target) {
    return rename_error(EEXIST, rename.to.name, "is there already");
  }
  if (rename.mode == RenameMode::kExchange && !rename.target) return no_entry(rename.to.name);
  // Within one directory nothing comes to lie deeper.
  if (rename.from.parent != rename.to.parent) {
    BLOBCACHE_RETURN_IF_ERROR(check_no_loop(catalog, rename.source, rename.to));
    if (rename.mode == RenameMode::kExchange) {
      BLOBCACHE_RETURN_IF_ERROR(check_no_loop(catalog, *rename.target, rename.from));
    }
  }
  if (rename.mode != RenameMode::kReplace || !rename.target) return absl::OkStatus();
  if (rename.target->file.id == rename.source.file.id) return absl::OkStatus();
  return check_replaced(catalog, rename.source, *rename.target);
}

absl::Status tell_rename(CatalogReader& catalog, const Rename& rename, Effects& effects) {
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.moved(rename.source.file, rename.from, rename.to));
  if (rename.mode == RenameMode::kExchange) {
    BLOBCACHE_RETURN_IF_ERROR(telling.moved(rename.target->file, rename.to, rename.from));
  } else if (rename.target) {
    BLOBCACHE_RETURN_IF_ERROR(telling.gone(rename.target->file, rename.to));
  }
  std::move(telling).finish(effects);
  return absl::OkStatus();
}

/// A name that is there before and after keeps its entry, and with it its place in a walk.
absl::Status move_entries(CatalogWriter& catalog, const Rename& rename, absl::Time now,
                          Effects& effects) {
  const int64_t moved = rename.source.file.id;
  if (!rename.target) {
    BLOBCACHE_RETURN_IF_ERROR(
        catalog.move_entry(rename.source.id, rename.to.parent, rename.to.name));
  } else if (rename.mode == RenameMode::kExchange) {
    BLOBCACHE_RETURN_IF_ERROR(catalog.point_entry(rename.source.id, rename.target->file.id));
    BLOBCACHE_RETURN_IF_ERROR(catalog.point_entry(rename.target->id, moved));
    BLOBCACHE_RETURN_IF_ERROR(catalog.touch_changed(rename.target->file.id, now));
  } else {
    BLOBCACHE_RETURN_IF_ERROR(catalog.delete_entry(rename.source.id));
    BLOBCACHE_RETURN_IF_ERROR(catalog.point_entry(rename.target->id, moved));
    BLOBCACHE_RETURN_IF_ERROR(
        drop_unlinked(catalog, rename.target->file.id, {now, Release::To::kCached}, effects));
  }
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch_changed(moved, now));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(rename.from.parent, now));
  if (rename.to.parent == rename.from.parent) return absl::OkStatus();
  return catalog.touch(rename.to.parent, now);
}

}  // namespace

absl::Status rename_name(CatalogWriter& catalog, const RenameRequest& request, absl::Time now,
                         Effects& effects) {
  BLOBCACHE_RETURN_IF_ERROR(check_entry_name(request.new_name));
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow from,
                             directory_beneath_files(catalog, request.from, EXDEV));
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow to, directory_beneath_files(catalog, request.to, EXDEV));
  Rename rename;
  rename.from = {from.id, request.name};
  rename.to = {to.id, request.new_name};
  rename.mode = request.mode;
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<EntryRow> source,
                             catalog.find_entry(from.id, request.name));
  if (!source) return no_entry(request.name);
  rename.source = *std::move(source);
  BLOBCACHE_ASSIGN_OR_RETURN(rename.target, catalog.find_entry(to.id, request.new_name));
  BLOBCACHE_RETURN_IF_ERROR(check_rename(catalog, rename));
  if (rename.target && rename.target->file.id == rename.source.file.id) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(tell_rename(catalog, rename, effects));
  BLOBCACHE_RETURN_IF_ERROR(move_entries(catalog, rename, now, effects));
  effects.names.push_back({request.from, std::string(request.name)});
  effects.names.push_back({request.to, std::string(request.new_name)});
  return absl::OkStatus();
}

}  // namespace blobcache::tree
