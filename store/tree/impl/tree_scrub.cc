#include "store/tree/impl/tree_scrub.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/impl/blob_spec.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/volume_scrub.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr size_t kPage = 256;  ///< rows that are read at a time

/// A blob is looked at again when it has another copy by then; a copy is whole when it is made.
constexpr int kMaxLooks = 3;

absl::Status ended() { return absl::CancelledError("the scrub was ended"); }

page::ScrubResult impossible_size(const absl::Status& why) {
  page::ScrubResult result;
  result.add_reason(base::message(why));
  return result;
}

page::ScrubResult cannot_open(const absl::Status& why) {
  page::ScrubResult result;
  result.add_reason(fmt::format("cannot be opened, and was not read: {}", base::message(why)));
  return result;
}

uint64_t own_bytes_of(const std::vector<VolumeInfo>& volumes) {
  uint64_t bytes = 0;
  for (const VolumeInfo& volume : volumes) bytes += volume.own_bytes;
  return bytes;
}

}  // namespace

absl::Status TreeScrub::check_catalog() {
  if (!watcher_.may_read(0)) return ended();
  const absl::Status status = catalog_.read()->check();
  if (!absl::IsDataLoss(status)) return status;
  return base::error(absl::StatusCode::kDataLoss,
                     fmt::format("{}; stop the daemon and run blobcached --rebuild, which makes it "
                                 "again from the blobs' files",
                                 base::message(status)));
}

absl::Status TreeScrub::run_all() {
  BLOBCACHE_RETURN_IF_ERROR(check_catalog());
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<VolumeInfo> volumes, volumes_.list());
  return run_all(volumes);
}

absl::Status TreeScrub::run_all_blobs() {
  BLOBCACHE_RETURN_IF_ERROR(check_catalog());
  return run_all({});
}

absl::Status TreeScrub::run_all(const std::vector<VolumeInfo>& volumes) {
  int64_t last = 0;
  {
    Catalog::Lease catalog = catalog_.read();
    BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
    BLOBCACHE_ASSIGN_OR_RETURN(last, catalog->newest_blob());
    BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog->totals());
    watcher_.on_begin(totals.blobs + volumes.size(),
                      totals.kept_disk_bytes + totals.cached_disk_bytes + own_bytes_of(volumes));
  }
  BLOBCACHE_RETURN_IF_ERROR(check_blobs_to(last));
  return check_volumes(volumes);
}

absl::Status TreeScrub::check_blobs_to(int64_t last) {
  for (int64_t after = 0;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<BlobRow> rows,
                               catalog_.read()->list_blobs(after, kPage));
    for (const BlobRow& row : rows) {
      if (row.id > last) return absl::OkStatus();
      BLOBCACHE_RETURN_IF_ERROR(check(row.id));
    }
    if (rows.empty()) return absl::OkStatus();
    after = rows.back().id;
  }
}

absl::Status TreeScrub::run_blob(int64_t blob) { return run_blobs({blob}); }

absl::Status TreeScrub::run_file(int64_t file) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row, catalog_.read()->find_file(file));
  if (!row || !row->blob) return run_blobs({});
  return run_blobs({*row->blob});
}

absl::Status TreeScrub::run_directory(int64_t directory) {
  std::vector<int64_t> blobs;
  std::vector<int64_t> directories = {directory};
  while (!directories.empty()) {
    const int64_t parent = directories.back();
    directories.pop_back();
    for (int64_t after = 0;;) {
      if (!watcher_.may_read(0)) return ended();
      BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<EntryRow> rows,
                                 catalog_.read()->list_entries(parent, after, kPage));
      for (const EntryRow& row : rows) {
        if (row.file.kind == FileKind::kDirectory) directories.push_back(row.file.id);
        if (row.file.blob) blobs.push_back(*row.file.blob);
      }
      if (rows.empty()) break;
      after = rows.back().id;
    }
  }
  return run_blobs(std::move(blobs));
}

absl::Status TreeScrub::run_blobs(std::vector<int64_t> blobs) {
  std::sort(blobs.begin(), blobs.end());
  blobs.erase(std::unique(blobs.begin(), blobs.end()), blobs.end());
  uint64_t bytes = 0;
  for (const int64_t blob : blobs) {
    if (!watcher_.may_read(0)) return ended();
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row,
                               catalog_.read()->find_blob_by_id(blob));
    if (row) bytes += row->disk_bytes;
  }
  watcher_.on_begin(blobs.size(), bytes);
  for (const int64_t blob : blobs) BLOBCACHE_RETURN_IF_ERROR(check(blob));
  return absl::OkStatus();
}

absl::Status TreeScrub::check(int64_t blob) {
  edits_.describer().look_at(blob);
  for (int look = 0; look < kMaxLooks; ++look) {
    if (!watcher_.may_read(0)) return ended();
    BLOBCACHE_ASSIGN_OR_RETURN(std::optional<BlobRow> row, catalog_.read()->load_blob(blob));
    if (!row) return absl::OkStatus();
    const absl::StatusOr<page::ObjectSpec> spec = blob_spec(*row);
    row->inline_map.clear();
    page::ScrubResult result;
    if (spec.ok()) {
      BLOBCACHE_ASSIGN_OR_RETURN(result, store_.scrub(*spec, watcher_));
    } else {
      result = impossible_size(spec.status());
    }
    if (result.clean()) {
      watcher_.on_checked(result);
      return absl::OkStatus();
    }
    BLOBCACHE_ASSIGN_OR_RETURN(const bool done, report(*row, std::move(result)));
    if (done) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status TreeScrub::run_volumes() {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<VolumeInfo> volumes, volumes_.list());
  return run_volumes(volumes);
}

absl::Status TreeScrub::run_volume(NodeId node) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<VolumeInfo> volumes, volumes_.list());
  std::erase_if(volumes, [node](const VolumeInfo& volume) { return volume.node != node; });
  return run_volumes(volumes);
}

absl::Status TreeScrub::run_volumes(const std::vector<VolumeInfo>& volumes) {
  watcher_.on_begin(volumes.size(), own_bytes_of(volumes));
  return check_volumes(volumes);
}

absl::Status TreeScrub::check_volumes(const std::vector<VolumeInfo>& volumes) {
  for (const VolumeInfo& volume : volumes) BLOBCACHE_RETURN_IF_ERROR(check_volume(volume));
  return absl::OkStatus();
}

absl::Status TreeScrub::check_volume(const VolumeInfo& volume) {
  if (!watcher_.may_read(0)) return ended();
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<page::ScrubResult> result, read_volume(volume));
  if (!result) return absl::OkStatus();
  watcher_.on_checked(*result);
  if (result->clean()) return absl::OkStatus();
  DamagedObject damaged;
  damaged.size_bytes = volume.size_bytes;
  damaged.names = {fmt::format("volumes/{}", volume.name)};
  damaged.result = *std::move(result);
  spdlog::error("scrub: volumes/{}: {}", printable(volume.name), damaged.result.reason);
  watcher_.on_damage(damaged);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<page::ScrubResult>> TreeScrub::read_volume(const VolumeInfo& volume) {
  const absl::StatusOr<VolumeRef> opened = volumes_.open(volume.node);
  if (opened.ok()) return VolumeScrub(**opened, watcher_).run();
  // NOT_FOUND is said of files that are gone, too: only the catalog knows which it is.
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row,
                             catalog_.read()->find_file(file_of_node(volume.node)));
  if (!row) return std::nullopt;
  return cannot_open(opened.status());
}

absl::StatusOr<bool> TreeScrub::report(const BlobRow& row, page::ScrubResult result) {
  DamagedObject damaged;
  {
    Catalog::Lease catalog = catalog_.read();
    BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> now, catalog->find_blob_by_id(row.id));
    if (!now) return true;
    if (now->incarnation != row.incarnation) return false;
    NameCursor from;
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<DescribedName> names,
                               catalog->names_of_blob(row.id, from, DamagedObject::kMaxNames + 1));
    for (const DescribedName& name : names) damaged.names.push_back(name.path);
  }
  damaged.more_names = damaged.names.size() > DamagedObject::kMaxNames;
  if (damaged.more_names) damaged.names.pop_back();
  if (!result.inline_map.empty()) store_map(row, result.inline_map);
  damaged.key = row.key;
  damaged.size_bytes = row.size_bytes;
  damaged.result = std::move(result);
  spdlog::error("scrub: blobs/{}: {}", row.key.hex(), damaged.result.reason);
  watcher_.on_checked(damaged.result);
  watcher_.on_damage(damaged);
  return true;
}

void TreeScrub::store_map(const BlobRow& row, const std::string& inline_map) {
  const auto edit = [&](CatalogWriter& catalog, Effects& /*effects*/) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(std::optional<BlobRow> now, catalog.find_blob_by_id(row.id));
    if (!now || now->incarnation != row.incarnation) return absl::OkStatus();
    now->inline_map = inline_map;
    return catalog.replace_copy(*now);
  };
  if (const absl::Status status = edits_.run(edit).status(); !status.ok()) {
    spdlog::warn("scrub: a page map that was made again is not stored: {}", base::message(status));
  }
}

}  // namespace blobcache::tree
