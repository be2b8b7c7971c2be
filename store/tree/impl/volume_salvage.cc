#include "store/tree/impl/volume_salvage.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/types/span.h"
#include "base/hex.h"
#include "base/status.h"
#include "store/page/object_key.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/impl/volume_edit.h"
#include "store/tree/impl/volume_set.h"
#include "store/tree/path.h"
#include "store/volume/volume.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// The folders of volumes, those that were made last going first: of two that claim a name the
/// older one is what a kill left of a removal.
std::vector<fs::path> volume_folders(const fs::path& parent) {
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator at(parent, error), end; !error && at != end; at.increment(error)) {
    page::Incarnation incarnation;
    if (!base::from_hex(at->path().filename().native(), absl::MakeSpan(incarnation.bytes))) {
      continue;
    }
    std::error_code ignored;
    found.emplace_back(fs::last_write_time(at->path() / VolumeSet::kNameFile, ignored), at->path());
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  std::vector<fs::path> folders;
  for (auto& [time, folder] : found) folders.push_back(std::move(folder));
  return folders;
}

/// A small file's text, at most one byte more than `most`; nullopt: it cannot be read.
std::optional<std::string> read_text(const fs::path& path, size_t most) {
  std::ifstream file(path, std::ios::binary);
  std::string text(most + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (!file.is_open() || file.bad()) return std::nullopt;
  return text;
}

absl::StatusOr<std::string> read_name(const fs::path& folder) {
  std::optional<std::string> name = read_text(folder / VolumeSet::kNameFile, kMaxNameBytes);
  if (!name) return absl::DataLossError("what it is called is lost");
  BLOBCACHE_RETURN_IF_ERROR(check_name(*name));
  return *std::move(name);
}

/// Which origin's file it is laid over, without the key; nullopt for a blob or nothing.
absl::StatusOr<std::optional<OriginBase>> read_origin_base(const fs::path& folder) {
  const fs::path file = folder / VolumeSet::kBaseFile;
  std::error_code error;
  if (!fs::exists(file, error)) return std::optional<OriginBase>();
  const std::optional<std::string> text = read_text(file, kMaxNameBytes + 1 + kMaxPathBytes);
  const size_t slash = text ? text->find('/') : std::string::npos;
  if (slash == std::string::npos || !split_path(text->substr(slash + 1)).ok()) {
    return absl::DataLossError("what it is laid over is lost");
  }
  BLOBCACHE_RETURN_IF_ERROR(check_name(text->substr(0, slash)));
  OriginBase base;
  base.origin = text->substr(0, slash);
  base.path = text->substr(slash + 1);
  return std::optional<OriginBase>(std::move(base));
}

}  // namespace

VolumeSalvage::VolumeSalvage(const fs::path& folder, CatalogWriter& catalog, absl::Time now,
                             Report report)
    : folder_(folder / "volumes"), catalog_(catalog), now_(now), report_(std::move(report)) {}

absl::Status VolumeSalvage::fill() {
  for (const fs::path& folder : volume_folders(folder_)) {
    const absl::Status added = add(folder);
    if (added.ok()) continue;
    // The catalog that is being made cannot be written.
    if (absl::IsInternal(added) || absl::IsResourceExhausted(added)) return added;
    report_(fmt::format("{}: left out: {}; its folder stays as {}.damaged", folder.string(),
                        base::message(added), folder.string()));
    left_out_.push_back(folder);
  }
  return absl::OkStatus();
}

absl::Status VolumeSalvage::add(const fs::path& folder) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::string name, read_name(folder));
  BLOBCACHE_ASSIGN_OR_RETURN(const volume::VolumeDescription told,
                             volume::Volume::describe(folder));
  VolumeRow row;
  std::optional<BlobRow> base;
  BLOBCACHE_ASSIGN_OR_RETURN(row.origin_base, read_origin_base(folder));
  if (row.origin_base) {
    row.origin_base->key = told.base;
  } else if (told.has_base) {
    BLOBCACHE_ASSIGN_OR_RETURN(base, catalog_.find_blob(told.base));
    if (!base) {
      return absl::NotFoundError(fmt::format("volumes/{}: its base, blobs/{}, is not here",
                                             printable(name), told.base.hex()));
    }
  }
  if (!base::from_hex(folder.filename().native(), absl::MakeSpan(row.incarnation.bytes))) {
    return absl::InternalError("a folder that is no volume's");
  }
  row.size_bytes = told.size_bytes;
  row.created = now_;
  struct stat owner = {};
  if (::stat((folder / VolumeSet::kNameFile).c_str(), &owner) != 0) {
    return base::errno_error(errno, folder.string());
  }
  const Creator creator{owner.st_uid, owner.st_gid, MayReplace::kAll};
  Effects effects;
  const mode_t mode = (owner.st_mode & S_IWUSR) != 0 ? kVolumeMode : kSnapshotMode;
  return add_volume(catalog_, name, row, base, mode, creator, effects).status();
}

absl::Status VolumeSalvage::set_aside() {
  for (const fs::path& folder : left_out_) {
    std::error_code error;
    fs::rename(folder, folder.string() + ".damaged", error);
    if (error) return base::errno_error(error.value(), folder.string());
  }
  return absl::OkStatus();
}

}  // namespace blobcache::tree
