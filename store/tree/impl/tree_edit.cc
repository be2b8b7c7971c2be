#include "store/tree/impl/tree_edit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/name_telling.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr mode_t kNewDirectoryMode = 0755;

/// The first `count` names of `path`, for a message.
std::string path_text(const PathNames& path, size_t count) {
  const auto end = path.begin() + static_cast<std::ptrdiff_t>(std::min(count, path.size()));
  return printable(fmt::format("{}", fmt::join(path.begin(), end, "/")));
}

std::string path_text(const PathNames& path) { return path_text(path, path.size()); }

absl::Status not_found(const PathNames& path, size_t count) {
  return absl::NotFoundError(fmt::format("{}: no such file or directory", path_text(path, count)));
}

absl::Status not_a_directory(const PathNames& path, size_t count) {
  return absl::FailedPreconditionError(fmt::format("{}: not a directory", path_text(path, count)));
}

/// The directory that holds the last name of `path` (a bindable one).
absl::StatusOr<int64_t> find_parent(CatalogWriter& catalog, const PathNames& path) {
  auto parent = static_cast<int64_t>(kFilesNode);
  for (size_t depth = 1; depth + 1 < path.size(); ++depth) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> entry,
                               catalog.find_entry(parent, path[depth]));
    if (!entry) return not_found(path, depth + 1);
    if (entry->file.kind != FileKind::kDirectory) return not_a_directory(path, depth + 1);
    parent = entry->file.id;
  }
  return parent;
}

absl::StatusOr<int64_t> make_directory(CatalogWriter& catalog, int64_t parent,
                                       std::string_view name, const Creator& creator,
                                       absl::Time now, Effects& effects) {
  FileRow directory;
  directory.kind = FileKind::kDirectory;
  directory.mode = kNewDirectoryMode;
  directory.uid = creator.uid;
  directory.gid = creator.gid;
  directory.modified = directory.changed = now;
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t id, catalog.insert_file(directory));
  BLOBCACHE_RETURN_IF_ERROR(catalog.insert_entry(parent, name, id));
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(parent, now));
  effects.names.push_back({static_cast<NodeId>(parent), std::string(name)});
  return id;
}

/// As find_parent(), making what is missing.
absl::StatusOr<int64_t> make_parent(CatalogWriter& catalog, const PathNames& path,
                                    const Creator& creator, absl::Time now, Effects& effects) {
  auto parent = static_cast<int64_t>(kFilesNode);
  for (size_t depth = 1; depth + 1 < path.size(); ++depth) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> entry,
                               catalog.find_entry(parent, path[depth]));
    if (entry && entry->file.kind != FileKind::kDirectory) return not_a_directory(path, depth + 1);
    if (entry) {
      parent = entry->file.id;
      continue;
    }
    BLOBCACHE_ASSIGN_OR_RETURN(parent,
                               make_directory(catalog, parent, path[depth], creator, now, effects));
  }
  return parent;
}

absl::Status set_pinned(CatalogWriter& catalog, const BlobRow& blob, bool pinned,
                        Effects& effects) {
  effects.told.push_back(describe_change(DescriptionChange::Kind::kPinned, blob));
  effects.told.back().pinned = pinned;
  return catalog.set_pinned(blob.id, pinned);
}

/// What keeps a blob for good, in words; nullopt: nothing does.
absl::StatusOr<std::optional<std::string>> holder_of(CatalogWriter& catalog, const BlobRow& blob) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> path, catalog.path_of_blob(blob.id));
  if (path) return fmt::format("held by {}{}", printable(*path), blob.pinned ? ", and pinned" : "");
  if (!blob.pinned) return std::nullopt;
  return fmt::format("pinned; \"blobcachectl unpin sha256:{}\" lets it go", blob.key.hex());
}

absl::Status delete_blob(CatalogWriter& catalog, BlobRow blob, Effects& effects) {
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_blob(blob.id));
  effects.names.push_back({kBlobsNode, blob.key.hex()});
  effects.removed.push_back(std::move(blob));
  return absl::OkStatus();
}

}  // namespace

DescriptionChange describe_change(DescriptionChange::Kind kind, const BlobRow& blob) {
  DescriptionChange change;
  change.kind = kind;
  change.blob = blob.id;
  change.key = blob.key;
  change.incarnation = blob.incarnation;
  change.size_bytes = blob.size_bytes;
  change.pinned = blob.pinned;
  return change;
}

absl::Status hold_blob(CatalogWriter& catalog, const BlobRow& blob, std::optional<absl::Time> since,
                       Effects& effects) {
  if (blob.retention == page::Retention::kCached) effects.cached_to_kept_bytes += blob.disk_bytes;
  return catalog.set_retention(blob.id, since, page::Retention::kKept);
}

absl::Status release_blob(CatalogWriter& catalog, int64_t blob, const Release& release,
                          Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool held, catalog.is_named(blob));
  if (held) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog.find_blob_by_id(blob));
  const bool cached = release.to == Release::To::kCached && row && !row->pinned;
  if (!cached) return catalog.set_retention(blob, release.now, page::Retention::kKept);
  if (row->retention == page::Retention::kKept) effects.kept_to_cached_bytes += row->disk_bytes;
  return catalog.set_retention(blob, release.now, page::Retention::kCached);
}

absl::StatusOr<std::optional<VolumeRow>> drop_content_volume(CatalogWriter& catalog, int64_t volume,
                                                             const Release& release,
                                                             Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<VolumeRow> row, catalog.find_volume(volume));
  if (!row) return row;
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_volume(volume));
  if (row->base) BLOBCACHE_RETURN_IF_ERROR(release_blob(catalog, *row->base, release, effects));
  return row;
}

absl::Status drop_unlinked(CatalogWriter& catalog, int64_t file, const Release& release,
                           Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row, catalog.find_file(file));
  if (!row) return absl::OkStatus();
  if (row->links > 0) return catalog.touch_changed(file, release.now);
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_file(file));
  if (row->kind != FileKind::kFile) return absl::OkStatus();
  GoneFile gone;
  gone.node = static_cast<NodeId>(file);
  if (row->blob) BLOBCACHE_RETURN_IF_ERROR(release_blob(catalog, *row->blob, release, effects));
  if (row->volume) {
    BLOBCACHE_ASSIGN_OR_RETURN(gone.volume,
                               drop_content_volume(catalog, *row->volume, release, effects));
  }
  effects.gone_files.push_back(std::move(gone));
  return absl::OkStatus();
}

absl::Status check_bindable(const PathNames& path) {
  if (path.empty())
    return absl::InvalidArgumentError("an empty path; it must begin with \"files/\"");
  if (path.size() < 2 || path.front() != "files") {
    return absl::PermissionDeniedError(
        fmt::format("{}: names are bound beneath files/ only", path_text(path)));
  }
  return absl::OkStatus();
}

absl::Status check_replaceable(std::string_view path, uid_t owner, const Creator& creator) {
  switch (creator.may_replace) {
    case MayReplace::kAll:
      return absl::OkStatus();
    case MayReplace::kOwn:
      if (creator.uid == owner) return absl::OkStatus();
      break;
    case MayReplace::kNone:
      break;
  }
  return absl::PermissionDeniedError(
      fmt::format("{}: belongs to uid {}; only its owner or an administrator may replace it",
                  printable(path), owner));
}

absl::StatusOr<FileRow> bind_path(CatalogWriter& catalog, const PathNames& path,
                                  const BlobRow& blob, const Creator& creator, absl::Time now,
                                  Effects& effects) {
  BLOBCACHE_RETURN_IF_ERROR(check_bindable(path));
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t parent,
                             make_parent(catalog, path, creator, now, effects));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> old,
                             catalog.find_entry(parent, path.back()));
  if (old && old->file.kind == FileKind::kDirectory) {
    return absl::FailedPreconditionError(fmt::format("{}: is a directory", path_text(path)));
  }
  if (old) {
    BLOBCACHE_RETURN_IF_ERROR(
        check_replaceable(fmt::format("{}", fmt::join(path, "/")), old->file.uid, creator));
  }
  FileRow file;
  file.mode = kFileMode;
  file.uid = creator.uid;
  file.gid = creator.gid;
  file.modified = file.changed = now;
  file.blob = blob.id;
  file.key = blob.key;
  file.size_bytes = blob.size_bytes;
  file.links = 1;
  BLOBCACHE_ASSIGN_OR_RETURN(file.id, catalog.insert_file(file));
  BLOBCACHE_RETURN_IF_ERROR(hold_blob(catalog, blob, std::nullopt, effects));
  // The loss of the same name, which may have been this blob's, too, is told first.
  NameTelling telling(catalog);
  if (old) {
    BLOBCACHE_RETURN_IF_ERROR(telling.gone(old->file, {parent, path.back()}));
    BLOBCACHE_RETURN_IF_ERROR(catalog.point_entry(old->id, file.id));
    BLOBCACHE_RETURN_IF_ERROR(drop_unlinked(catalog, old->file.id, {now}, effects));
  } else {
    BLOBCACHE_RETURN_IF_ERROR(catalog.insert_entry(parent, path.back(), file.id));
  }
  BLOBCACHE_RETURN_IF_ERROR(telling.bound(file, {parent, path.back()}));
  std::move(telling).finish(effects);
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(parent, now));
  effects.names.push_back({static_cast<NodeId>(parent), std::string(path.back())});
  return file;
}

absl::Status remove_name(CatalogWriter& catalog, const PathNames& path, absl::Time now,
                         Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t parent, find_parent(catalog, path));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> entry,
                             catalog.find_entry(parent, path.back()));
  if (!entry) return not_found(path, path.size());
  if (entry->file.kind == FileKind::kDirectory) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool occupied, catalog.has_entries(entry->file.id));
    if (occupied) {
      return absl::FailedPreconditionError(
          fmt::format("{}: the directory is not empty", path_text(path)));
    }
  }
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.gone(entry->file, {parent, path.back()}));
  BLOBCACHE_RETURN_IF_ERROR(catalog.delete_entry(entry->id));
  BLOBCACHE_RETURN_IF_ERROR(drop_unlinked(catalog, entry->file.id, {now}, effects));
  std::move(telling).finish(effects);
  BLOBCACHE_RETURN_IF_ERROR(catalog.touch(parent, now));
  effects.names.push_back({static_cast<NodeId>(parent), std::string(path.back())});
  return absl::OkStatus();
}

absl::Status remove_blob(CatalogWriter& catalog, const page::ObjectKey& key, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<BlobRow> blob, catalog.find_blob(key));
  if (!blob) return absl::NotFoundError(fmt::format("blobs/{}: no such blob", key.hex()));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> holder, holder_of(catalog, *blob));
  if (holder) {
    return absl::FailedPreconditionError(fmt::format("blobs/{}: {}", key.hex(), *holder));
  }
  return delete_blob(catalog, *std::move(blob), effects);
}

absl::Status keep_unnamed(CatalogWriter& catalog, const BlobRow& blob, absl::Time now,
                          Effects& effects) {
  if (!blob.unnamed_since) return absl::OkStatus();
  return hold_blob(catalog, blob, now, effects);
}

absl::Status pin_blob(CatalogWriter& catalog, const BlobRow& blob, Effects& effects) {
  if (blob.pinned) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(hold_blob(catalog, blob, blob.unnamed_since, effects));
  return set_pinned(catalog, blob, true, effects);
}

absl::Status unpin_blob(CatalogWriter& catalog, const BlobRow& blob, absl::Time now,
                        Effects& effects) {
  if (!blob.pinned) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(set_pinned(catalog, blob, false, effects));
  return keep_unnamed(catalog, blob, now, effects);
}

absl::Status evict_blob(CatalogWriter& catalog, BlobRow blob, absl::Duration unnamed_ttl,
                        Effects& effects) {
  if (blob.retention == page::Retention::kCached) {
    return delete_blob(catalog, std::move(blob), effects);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<std::string> why, holder_of(catalog, blob));
  if (!why) {
    const absl::Time until = blob.unnamed_since.value_or(absl::InfinitePast()) + unnamed_ttl;
    why = fmt::format("without a name and kept until {} (store.unnamed_ttl)",
                      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", until, absl::UTCTimeZone()));
  }
  return absl::FailedPreconditionError(fmt::format("kept on disk: {}", *why));
}

absl::Status expire_unnamed(CatalogWriter& catalog, absl::Time before, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool any, catalog.any_expired(before));
  if (!any) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t bytes, catalog.expire(before));
  effects.kept_to_cached_bytes += bytes;
  return absl::OkStatus();
}

absl::Status forget_unnamed(CatalogWriter& catalog, page::Retention retention,
                            const UnnamedCursor& after, absl::Time before, size_t limit,
                            Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<BlobRow> blobs,
                             catalog.list_unnamed(retention, after, before, limit));
  for (BlobRow& blob : blobs) {
    BLOBCACHE_RETURN_IF_ERROR(delete_blob(catalog, std::move(blob), effects));
  }
  return absl::OkStatus();
}

absl::Status reclaim_cached(CatalogWriter& catalog, uint64_t bytes, size_t limit,
                            absl::FunctionRef<bool(const BlobRow&)> in_use, Effects& effects) {
  uint64_t given_up = 0;
  size_t count = 0;
  UnnamedCursor after;
  while (given_up < bytes && count < limit) {
    BLOBCACHE_ASSIGN_OR_RETURN(std::vector<BlobRow> candidates,
                               catalog.oldest_cached(after, limit));
    if (candidates.empty()) break;
    after = {.since = candidates.back().unnamed_since.value_or(absl::InfinitePast()),
             .blob = candidates.back().id};
    for (BlobRow& blob : candidates) {
      if (given_up >= bytes || count == limit) break;
      if (in_use(blob)) continue;
      given_up += blob.disk_bytes;
      ++count;
      BLOBCACHE_RETURN_IF_ERROR(delete_blob(catalog, std::move(blob), effects));
    }
  }
  return absl::OkStatus();
}

}  // namespace blobcache::tree
