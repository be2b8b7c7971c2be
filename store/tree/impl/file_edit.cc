#include "store/tree/impl/file_edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/name_steps.h"
#include "store/tree/impl/name_telling.h"

namespace blobcache::tree {
namespace {

absl::Status not_as_expected(int64_t file, std::string_view why) {
  return absl::FailedPreconditionError(fmt::format("node {}: {}", file, why));
}

}  // namespace

absl::StatusOr<std::vector<FileRow>> list_files_under_writing(CatalogReader& catalog, int64_t after,
                                                              size_t limit) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<int64_t> files,
                             catalog.list_written_files(after, limit));
  std::vector<FileRow> rows;
  for (const int64_t file : files) {
    BLOBCACHE_ASSIGN_OR_RETURN(std::optional<FileRow> row, catalog.find_file(file));
    if (row) rows.push_back(*std::move(row));
  }
  return rows;
}

absl::StatusOr<FileRow> make_file(CatalogWriter& catalog, const NewName& name, VolumeRow volume,
                                  absl::Time now, Effects& effects) {
  volume.base = std::nullopt;
  volume.origin_base = std::nullopt;
  BLOBCACHE_ASSIGN_OR_RETURN(volume.id, catalog.insert_volume(volume));
  FileRow row;
  row.kind = FileKind::kFile;
  row.volume = volume.id;
  return add_name(catalog, name, row, now, effects);
}

absl::StatusOr<FileRow> begin_file(CatalogWriter& catalog, int64_t file, VolumeRow volume) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<FileRow> row, catalog.find_file(file));
  if (!row) return base::posix_error(ESTALE, fmt::format("node {}: removed", file));
  if (row->kind != FileKind::kFile || !row->blob) {
    return not_as_expected(file, "is no file that has settled");
  }
  if (volume.base != row->blob) return not_as_expected(file, "has another content by now");
  // The row of the volume holds the blob as the name did: nothing changes for it.
  BLOBCACHE_ASSIGN_OR_RETURN(volume.id, catalog.insert_volume(volume));
  row->base = std::exchange(row->blob, std::nullopt);
  row->key = std::nullopt;
  row->volume = volume.id;
  row->pinned = false;
  BLOBCACHE_RETURN_IF_ERROR(catalog.set_content(*row));
  return *std::move(row);
}

absl::StatusOr<bool> settle_file(CatalogWriter& catalog, int64_t file, int64_t expected,
                                 const BlobRow& blob, std::optional<absl::Time> modified,
                                 absl::Time now, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> before, catalog.find_file(file));
  if (!before) return false;
  if (!before->is_under_writing() || before->volume != expected) {
    return not_as_expected(file, "has another content by now");
  }
  FileRow after = *before;
  after.blob = blob.id;
  after.key = blob.key;
  after.volume = std::nullopt;
  after.base = std::nullopt;
  after.size_bytes = blob.size_bytes;
  after.modified = modified.value_or(before->modified);
  after.changed = std::max(before->changed, after.modified);
  NameTelling telling(catalog);
  BLOBCACHE_RETURN_IF_ERROR(telling.passed(*before, after));
  BLOBCACHE_RETURN_IF_ERROR(catalog.set_content(after));
  BLOBCACHE_RETURN_IF_ERROR(hold_blob(catalog, blob, std::nullopt, effects));
  BLOBCACHE_RETURN_IF_ERROR(
      drop_content_volume(catalog, expected, {now, Release::To::kCached}, effects).status());
  std::move(telling).finish(effects);
  return true;
}

absl::Status note_file(CatalogWriter& catalog, int64_t file, uint64_t length_bytes,
                       absl::Time modified) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<FileRow> row, catalog.find_file(file));
  if (!row || !row->is_under_writing()) return absl::OkStatus();
  row->size_bytes = length_bytes;
  row->modified = modified;
  row->changed = std::max(row->changed, modified);
  return catalog.set_content(*row);
}

}  // namespace blobcache::tree
