#include "store/tree/impl/name_telling.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "base/status.h"
#include "store/tree/path.h"

namespace blobcache::tree {

absl::Status NameTelling::add(Kind kind, const FileRow& file, std::string path) {
  const std::optional<int64_t> blob = file.described_blob();
  if (!blob || path.size() > kMaxPathBytes) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog_.find_blob_by_id(*blob));
  if (!row) return absl::OkStatus();
  DescriptionChange change = describe_change(kind, *row);
  change.name = {std::move(path), file.mode, file.uid, file.gid, file.modified};
  (kind == Kind::kGone ? losses_ : gains_).push_back(std::move(change));
  return absl::OkStatus();
}

absl::Status NameTelling::gone(const FileRow& file, const Place& place) {
  if (!file.described_blob()) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<std::string> path,
                             catalog_.path_of_entry(place.parent, place.name));
  return path ? add(Kind::kGone, file, *std::move(path)) : absl::OkStatus();
}

absl::Status NameTelling::bound(const FileRow& file, const Place& place) {
  if (!file.described_blob()) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<std::string> path,
                             catalog_.path_of_entry(place.parent, place.name));
  return path ? add(Kind::kBound, file, *std::move(path)) : absl::OkStatus();
}

absl::Status NameTelling::all_links(Kind kind, const FileRow& file) {
  if (!file.described_blob()) return absl::OkStatus();
  if (file.links > kMostLinks) return add(Kind::kOther, file, "");
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<LinkRow> links,
                             catalog_.list_links(file.id, 0, kMostLinks));
  for (const LinkRow& link : links) {
    const Place place{link.parent, link.name};
    BLOBCACHE_RETURN_IF_ERROR(kind == Kind::kGone ? gone(file, place) : bound(file, place));
  }
  return absl::OkStatus();
}

absl::Status NameTelling::changed(const FileRow& file) { return all_links(Kind::kBound, file); }

absl::Status NameTelling::passed(const FileRow& before, const FileRow& after) {
  BLOBCACHE_RETURN_IF_ERROR(all_links(Kind::kGone, before));
  return all_links(Kind::kBound, after);
}

absl::Status NameTelling::moved(const FileRow& file, const Place& from, const Place& to) {
  if (file.kind != FileKind::kDirectory) {
    BLOBCACHE_RETURN_IF_ERROR(gone(file, from));
    return bound(file, to);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> old_path,
                             catalog_.path_of_entry(from.parent, from.name));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> new_path,
                             catalog_.path_of_entry(to.parent, to.name));
  if (old_path && new_path) return moved_directory(file.id, *old_path, *new_path);
  moved_directories_.push_back(file.id);
  return absl::OkStatus();
}

absl::Status NameTelling::moved_directory(int64_t directory, const std::string& from,
                                          const std::string& to) {
  const size_t losses = losses_.size();
  const size_t gains = gains_.size();
  size_t seen = 0;
  std::vector<std::pair<int64_t, std::string>> to_enter{{directory, ""}};
  while (!to_enter.empty()) {
    const auto [parent, path] = std::move(to_enter.back());
    to_enter.pop_back();
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<EntryRow> entries,
                               catalog_.list_entries(parent, 0, kMostBeneath - seen + 1));
    seen += entries.size();
    if (seen > kMostBeneath) {
      losses_.resize(losses);
      gains_.resize(gains);
      moved_directories_.push_back(directory);
      return absl::OkStatus();
    }
    for (const EntryRow& entry : entries) {
      std::string below = fmt::format("{}/{}", path, entry.name);
      BLOBCACHE_RETURN_IF_ERROR(add(Kind::kGone, entry.file, from + below));
      BLOBCACHE_RETURN_IF_ERROR(add(Kind::kBound, entry.file, to + below));
      if (entry.file.kind == FileKind::kDirectory) {
        to_enter.emplace_back(entry.file.id, std::move(below));
      }
    }
  }
  return absl::OkStatus();
}

void NameTelling::finish(Effects& effects) && {
  std::move(losses_.begin(), losses_.end(), std::back_inserter(effects.told));
  std::move(gains_.begin(), gains_.end(), std::back_inserter(effects.told));
  effects.moved_directories.insert(effects.moved_directories.end(), moved_directories_.begin(),
                                   moved_directories_.end());
}

}  // namespace blobcache::tree
