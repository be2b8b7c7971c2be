#include "store/tree/impl/file_salvage.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/status.h"
#include "store/page/object_key.h"
#include "store/tree/impl/file_edit.h"
#include "store/tree/impl/file_volumes.h"
#include "store/tree/impl/name_steps.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/tree_edit.h"
#include "store/volume/volume.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// As fsck has it.
constexpr std::string_view kLostAndFound = "lost+found";
constexpr mode_t kLostFileMode = 0600;
constexpr mode_t kLostFolderMode = 0700;

absl::StatusOr<NodeId> lost_and_found(CatalogWriter& catalog, absl::Time now, Effects& effects) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> there,
                             catalog.find_entry(static_cast<int64_t>(kFilesNode), kLostAndFound));
  if (there) return static_cast<NodeId>(there->file.id);
  NewName name;
  name.parent = kFilesNode;
  name.name = kLostAndFound;
  name.mode = kLostFolderMode;
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow made, add_directory(catalog, name, now, effects));
  return static_cast<NodeId>(made.id);
}

}  // namespace

FileSalvage::FileSalvage(const fs::path& store, CatalogWriter& catalog, absl::Time now,
                         Report report)
    : folder_(store / "writing"), catalog_(catalog), now_(now), report_(std::move(report)) {}

absl::Status FileSalvage::fill() {
  for (const page::Incarnation& incarnation : FileVolumes::find_all(folder_)) {
    const absl::Status added = add(incarnation);
    if (added.ok()) {
      ++found_;
      report_(fmt::format("files/{}/{}: was being written, and what it was called is lost",
                          kLostAndFound, incarnation.hex()));
      continue;
    }
    // The catalog that is being made cannot be written.
    if (absl::IsInternal(added) || absl::IsResourceExhausted(added)) return added;
    const std::string path = (folder_ / incarnation.hex()).string();
    report_(fmt::format("{}: left out: {}; its files stay as {}.damaged.*", path,
                        base::message(added), path));
    left_out_.push_back(incarnation);
  }
  return absl::OkStatus();
}

absl::Status FileSalvage::set_aside() {
  for (const page::Incarnation& incarnation : left_out_) {
    const std::string path = (folder_ / incarnation.hex()).string();
    for (const char* name : {".header", ".data", ".map"}) {
      std::error_code error;
      fs::rename(path + name, path + ".damaged" + name, error);
      if (error && error != std::errc::no_such_file_or_directory) {
        return base::errno_error(error.value(), path);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status FileSalvage::add(const page::Incarnation& incarnation) {
  const std::string name = incarnation.hex();
  BLOBCACHE_ASSIGN_OR_RETURN(const volume::VolumeDescription told,
                             volume::Volume::describe(folder_ / name));
  VolumeRow row;
  row.incarnation = incarnation;
  row.size_bytes = told.size_bytes;
  row.created = now_;
  Effects effects;
  BLOBCACHE_ASSIGN_OR_RETURN(const NodeId parent, lost_and_found(catalog_, now_, effects));
  if (!told.has_base) {
    NewName file;
    file.parent = parent;
    file.name = name;
    file.mode = kLostFileMode;
    return make_file(catalog_, file, row, now_, effects).status();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> base, catalog_.find_blob(told.base));
  if (!base) {
    return absl::NotFoundError(
        fmt::format("what it was written over, blobs/{}, is not here", told.base.hex()));
  }
  const PathNames path = {"files", kLostAndFound, name};
  BLOBCACHE_ASSIGN_OR_RETURN(const FileRow file,
                             bind_path(catalog_, path, *base, Creator{}, now_, effects));
  row.base = base->id;
  return begin_file(catalog_, file.id, row).status();
}

}  // namespace blobcache::tree
