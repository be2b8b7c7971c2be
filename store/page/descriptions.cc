#include "store/page/descriptions.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/impl/names_file.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<base::UniqueFd> open_plain(const DiskTier& disk, const fs::path& path, int access) {
  const int opened = disk.calls().open(path, access | O_NOFOLLOW | O_NONBLOCK);
  if (opened < 0) return base::errno_error(-opened, path.string());
  return base::UniqueFd(opened);
}

fs::path with_names_suffix(const fs::path& path) {
  return path.string() + std::string(kNamesSuffix);
}

/// A names file under writing, in tmp/. Its name is no leftover meanwhile, and goes with this
/// unless it is moved to its place.
class TemporaryNames {
 public:
  explicit TemporaryNames(DiskTier& disk) : disk_(disk) { disk_.begin_writing(id_); }
  ~TemporaryNames() {
    if (!moved_) disk_.unlink_temporary(id_);
    disk_.end_writing(id_);
  }
  TemporaryNames(const TemporaryNames&) = delete;
  TemporaryNames& operator=(const TemporaryNames&) = delete;
  [[nodiscard]] fs::path path() const { return with_names_suffix(disk_.temporary_path(id_)); }
  [[nodiscard]] absl::Status move_to(const fs::path& to) {
    const int renamed = disk_.calls().rename(path(), to);
    moved_ = renamed == 0;
    return moved_ ? absl::OkStatus() : base::errno_error(-renamed, to.string());
  }

 private:
  DiskTier& disk_;
  const Incarnation id_ = Incarnation::random();
  bool moved_ = false;
};

}  // namespace

bool Descriptions::has_attributes() const { return disk_.has_attributes(); }

absl::StatusOr<std::optional<std::string>> Descriptions::attribute(
    const ObjectKey& key, const Incarnation& incarnation) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             open_plain(disk_, disk_.object_path(key, incarnation), O_RDONLY));
  return read_description(fd.get());
}

absl::StatusOr<bool> Descriptions::set_attribute(const ObjectKey& key,
                                                 const Incarnation& incarnation,
                                                 const std::string& text) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             open_plain(disk_, disk_.object_path(key, incarnation), O_RDONLY));
  // To write what is there already would cost the journal.
  if (read_description(fd.get()) == text) return true;
  return disk_.set_attribute(fd.get(), text);
}

absl::Status Descriptions::replace_attribute(const ObjectKey& key, const Incarnation& incarnation,
                                             const std::string& text) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool stored, set_attribute(key, incarnation, text));
  if (stored) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             open_plain(disk_, disk_.object_path(key, incarnation), O_RDONLY));
  const int removed = disk_.calls().remove_attribute(fd.get(), kDescriptionAttribute);
  if (removed == 0 || removed == -ENODATA || removed == -EOPNOTSUPP) return absl::OkStatus();
  return base::errno_error(-removed, "removing the description of an object");
}

absl::Status Descriptions::write_file(const ObjectKey& key, const Incarnation& incarnation,
                                      FillFile fill) const {
  const fs::path data = disk_.object_path(key, incarnation);
  const fs::path to = with_names_suffix(data);
  if (::access(data.c_str(), F_OK) != 0) return base::errno_error(errno, data.string());
  TemporaryNames made(disk_);
  BLOBCACHE_ASSIGN_OR_RETURN(NamesFileWriter writer,
                             NamesFileWriter::create(made.path(), key, disk_.calls()));
  BLOBCACHE_RETURN_IF_ERROR(fill([&](std::string_view record) { return writer.add(record); }));
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd, writer.finish());
  // Where nothing is told yet there is nothing that a power cut could take.
  if (disk_.has_attributes() || ::access(to.c_str(), F_OK) == 0) {
    BLOBCACHE_RETURN_IF_ERROR(disk_.sync_fd(fd.get()));
  }
  BLOBCACHE_RETURN_IF_ERROR(made.move_to(to));
  // Who removed the object meanwhile may have looked for this file before it was there.
  if (::access(data.c_str(), F_OK) != 0) return remove_file(key, incarnation);
  return absl::OkStatus();
}

absl::StatusOr<bool> Descriptions::append(const ObjectKey& key, const Incarnation& incarnation,
                                          absl::Span<const std::string> records) const {
  const absl::StatusOr<base::UniqueFd> fd =
      open_plain(disk_, with_names_suffix(disk_.object_path(key, incarnation)), O_RDWR);
  if (absl::IsNotFound(fd.status())) return false;
  if (!fd.ok()) return fd.status();
  return append_to_names_file(disk_.calls(), fd->get(), key, records);
}

absl::StatusOr<bool> Descriptions::hand_over(const ObjectKey& key, const Incarnation& from,
                                             const Incarnation& to, const std::string& text) const {
  const fs::path old_name = with_names_suffix(disk_.object_path(key, from));
  const fs::path new_name = with_names_suffix(disk_.object_path(key, to));
  if (::access(old_name.c_str(), F_OK) != 0) {
    return errno == ENOENT ? absl::StatusOr<bool>(false)
                           : base::errno_error(errno, old_name.string());
  }
  BLOBCACHE_RETURN_IF_ERROR(replace_attribute(key, to, text));
  const int renamed = disk_.calls().rename(old_name, new_name);
  if (renamed < 0) return base::errno_error(-renamed, new_name.string());
  return true;
}

absl::Status Descriptions::read_file(const ObjectKey& key, const Incarnation& incarnation,
                                     absl::FunctionRef<void(std::string_view record)> visit) const {
  BLOBCACHE_ASSIGN_OR_RETURN(
      const base::UniqueFd fd,
      open_plain(disk_, with_names_suffix(disk_.object_path(key, incarnation)), O_RDONLY));
  return read_names_file(disk_.calls(), fd.get(), key, visit);
}

absl::Status Descriptions::remove_file(const ObjectKey& key, const Incarnation& incarnation) const {
  const fs::path path = with_names_suffix(disk_.object_path(key, incarnation));
  const int removed = disk_.calls().unlink(path);
  if (removed == 0 || removed == -ENOENT) return absl::OkStatus();
  return base::errno_error(-removed, path.string());
}

}  // namespace blobcache::page
