#include "store/page/impl/leftover_files.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/hex.h"
#include "base/status.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

/// The store's folder, by any of its files.
fs::path root_of(const DiskTier& disk) {
  return disk.temporary_path(Incarnation()).parent_path().parent_path();
}

/// Whose file tmp/`name` is: "<32 hex>", with or without ".map" or ".names", as the store writes
/// it.
std::optional<Incarnation> parse_temporary_name(std::string_view name) {
  (void)cut_part_suffix(name);
  Incarnation incarnation;
  if (!base::from_hex(name, absl::MakeSpan(incarnation.bytes)) || incarnation.hex() != name) {
    return std::nullopt;
  }
  return incarnation;
}

/// Fills in what the file takes. False when it is gone or no regular file.
bool measure(const fs::path& path, Leftover& leftover) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  leftover.disk_bytes = static_cast<uint64_t>(info.st_blocks) * 512;
  return true;
}

/// Calls `visit` for the entries of a folder, which may change meanwhile.
template <typename Visit>
absl::Status for_each_entry(const fs::path& folder, const Visit& visit) {
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    BLOBCACHE_RETURN_IF_ERROR(visit(at->path()));
  }
  if (error) return base::errno_error(error.value(), folder.string());
  return absl::OkStatus();
}

}  // namespace

absl::Status for_each_leftover(
    DiskTier& disk, const std::function<bool(const ObjectKey&, const Incarnation&)>& known,
    const std::function<absl::Status(const Leftover&)>& visit) {
  const fs::path root = root_of(disk);
  for (unsigned i = 0; i < 256; ++i) {
    const fs::path folder = fs::path("objects") / object_folder_name(i);
    BLOBCACHE_RETURN_IF_ERROR(for_each_entry(root / folder, [&](const fs::path& path) {
      const std::optional<ObjectFileName> name = parse_object_file_name(path.filename().string());
      // A writer's object is asked for before the catalog, because it moves from the one to the
      // other.
      if (!name || disk.is_being_written(name->incarnation)) return absl::OkStatus();
      if (known(name->key, name->incarnation)) return absl::OkStatus();
      Leftover orphan{Leftover::Kind::kOrphan, folder / path.filename(), name->key,
                      name->incarnation, 0};
      return measure(path, orphan) ? visit(orphan) : absl::OkStatus();
    }));
  }
  return for_each_entry(root / "tmp", [&](const fs::path& path) {
    const std::optional<Incarnation> life = parse_temporary_name(path.filename().string());
    if (!life || disk.is_being_written(*life)) return absl::OkStatus();
    Leftover file{Leftover::Kind::kTemporary, fs::path("tmp") / path.filename(), {}, *life, 0};
    return measure(path, file) ? visit(file) : absl::OkStatus();
  });
}

absl::StatusOr<bool> remove_leftover(DiskTier& disk, const Leftover& leftover) {
  if (disk.is_being_written(leftover.incarnation)) return false;
  const fs::path path = root_of(disk) / leftover.file;
  const int removed = disk.calls().unlink(path);
  if (removed == 0) return true;
  if (removed == -ENOENT) return false;
  return base::errno_error(-removed, leftover.file.string());
}

}  // namespace blobcache::page
