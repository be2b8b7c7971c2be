#include "store/tree/impl/volume_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/types/span.h"
#include "base/hex.h"
#include "base/size.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// What block devices count in; a size that is no multiple would lose its tail in a kernel.
constexpr uint64_t kSectorBytes = 512;
constexpr size_t kListBatch = 256;
/// How much of a cut is read at once.
constexpr uint64_t kCopyPiece = uint64_t{1} << 20;

std::string path_of(std::string_view name) { return fmt::format("volumes/{}", printable(name)); }

absl::Status check_size(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::InvalidArgumentError("a volume of no bytes holds nothing");
  if (size_bytes % kSectorBytes != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes are no multiple of {}", size_bytes, kSectorBytes));
  }
  if (size_bytes > volume::Volume::kMaxSize) {
    return absl::InvalidArgumentError(
        fmt::format("a volume has at most {}", base::format_size(volume::Volume::kMaxSize)));
  }
  return absl::OkStatus();
}

/// Writes a small file and syncs it with its folder.
absl::Status write_durably(const fs::path& file, std::string_view text, mode_t mode) {
  const base::UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid() || ::write(fd.get(), text.data(), text.size()) != std::ssize(text) ||
      ::fsync(fd.get()) != 0) {
    return base::errno_error(errno, file.string());
  }
  const base::UniqueFd folder(
      ::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) != 0) {
    return base::errno_error(errno, file.parent_path().string());
  }
  return absl::OkStatus();
}

bool is_snapshot(const NamedVolume& volume) { return volume.entry.file.mode == kSnapshotMode; }

absl::Status remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  // Once its row is gone, the start's search for orphans may be removing it as well.
  if (!error || error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  return base::errno_error(error.value(), folder.string());
}

}  // namespace

VolumeSet::VolumeSet(Namespace& names, Catalog& catalog, EditRunner& edits, Ballast& ballast,
                     const fs::path& folder, const Space& space, Clock clock)
    : names_(names),
      bases_(names),
      catalog_(catalog),
      edits_(edits),
      ballast_(ballast),
      folder_(folder / "volumes"),
      clock_(std::move(clock)),
      budget_(space.budget_bytes, volume::FreeSpace::of(folder, space.reserve_bytes)) {}

fs::path VolumeSet::folder_of(const VolumeRow& row) const {
  return folder_ / row.incarnation.hex();
}

volume::VolumeOptions VolumeSet::options_for(const VolumeRow& row, page::ObjectRef base) {
  volume::VolumeOptions options;
  options.path = folder_of(row);
  options.base = std::move(base);
  options.workers = &workers_;
  options.budget = &budget_;
  return options;
}

absl::Status VolumeSet::count() {
  for (int64_t after = 0;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<VolumeRow> rows,
                               catalog_.read()->list_volumes(after, kListBatch));
    for (const VolumeRow& row : rows) {
      charge_idle(row);
      if (row.origin_base) any_origins_ = true;
    }
    if (rows.empty()) return any_origins_ ? find_origins() : absl::OkStatus();
    after = rows.back().id;
  }
}

absl::Status VolumeSet::find_origins() {
  Catalog::Lease catalog = catalog_.read();
  for (int64_t after = 0;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(
        const std::vector<EntryRow> entries,
        catalog->list_entries(static_cast<int64_t>(kVolumesNode), after, kListBatch));
    if (entries.empty()) return absl::OkStatus();
    for (const EntryRow& entry : entries) {
      if (!entry.file.volume) continue;
      BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<VolumeRow> row,
                                 catalog->find_volume(*entry.file.volume));
      if (row) note_origin(static_cast<NodeId>(entry.file.id), *row);
    }
    after = entries.back().id;
  }
}

void VolumeSet::note_origin(NodeId node, const VolumeRow& row) {
  if (!row.origin_base) return;
  const absl::MutexLock lock(&mutex_);
  origins_[node] = row.origin_base->origin;
  any_origins_ = true;
}

std::string VolumeSet::origin_of(NodeId node) {
  if (!any_origins_) return "";
  const absl::MutexLock lock(&mutex_);
  const auto at = origins_.find(node);
  return at == origins_.end() ? "" : at->second;
}

void VolumeSet::charge_idle(const VolumeRow& row) {
  const absl::StatusOr<volume::VolumeDescription> told = volume::Volume::describe(folder_of(row));
  if (!told.ok()) {
    spdlog::error("a volume cannot be counted: {}", base::message(told.status()));
    return;
  }
  budget_.take_anyway(told->data_bytes);
  const absl::MutexLock lock(&mutex_);
  idle_bytes_[row.id] = told->data_bytes;
}

void VolumeSet::discharge_idle(const VolumeRow& row) {
  const absl::MutexLock lock(&mutex_);
  const auto at = idle_bytes_.find(row.id);
  if (at == idle_bytes_.end()) return;
  budget_.give(at->second);
  idle_bytes_.erase(at);
}

absl::StatusOr<uint64_t> VolumeSet::remove_orphans() {
  uint64_t removed = 0;
  std::error_code error;
  std::vector<fs::path> folders;
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
    folders.push_back(at->path());
  }
  for (const fs::path& folder : folders) {
    page::Incarnation incarnation;
    // What is not ours to have made is not ours to remove.
    if (!base::from_hex(folder.filename().native(), absl::MakeSpan(incarnation.bytes))) continue;
    {
      // Before the catalog is asked: what is made meanwhile moves from the one to the other.
      const absl::MutexLock lock(&mutex_);
      if (making_.contains(folder.filename().native())) continue;
    }
    BLOBCACHE_ASSIGN_OR_RETURN(const bool known, catalog_.read()->has_volume(incarnation));
    if (known) continue;
    BLOBCACHE_RETURN_IF_ERROR(catalog_.vouch());
    BLOBCACHE_RETURN_IF_ERROR(remove_folder(folder));
    ++removed;
  }
  return removed;
}

absl::StatusOr<NamedVolume> VolumeSet::find(std::string_view name) {
  BLOBCACHE_RETURN_IF_ERROR(check_name(name));
  Catalog::Lease catalog = catalog_.read();
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<NamedVolume> found, find_volume(*catalog, name));
  if (!found) return no_such_volume(name);
  return *std::move(found);
}

absl::StatusOr<NamedVolume> VolumeSet::find(const EntryRow& entry) {
  if (entry.file.volume) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<VolumeRow> row,
                               catalog_.read()->find_volume(*entry.file.volume));
    if (row) return NamedVolume{entry, *row};
  }
  // Removed since the entry was read, or damage: the name tells which.
  return find(entry.name);
}

absl::StatusOr<VolumeInfo> VolumeSet::create(std::string_view name, uint64_t size_bytes,
                                             std::string_view base_path, const Creator& creator) {
  BLOBCACHE_RETURN_IF_ERROR(check_name(name));
  VolumeBase base;
  if (!base_path.empty()) {
    BLOBCACHE_ASSIGN_OR_RETURN(base, bases_.find(base_path));
    const uint64_t base_bytes = base.object->size_bytes();
    if (size_bytes == 0) {
      size_bytes = (base_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
    }
    if (size_bytes < base_bytes) {
      return absl::InvalidArgumentError(
          fmt::format("{} bytes are less than the base's {}", size_bytes, base_bytes));
    }
  }
  BLOBCACHE_RETURN_IF_ERROR(check_size(size_bytes));
  Plan plan;
  plan.name = name;
  plan.row.size_bytes = size_bytes;
  plan.base = std::move(base);
  plan.creator = creator;
  return make(plan, [](volume::Volume& /*empty*/) { return absl::OkStatus(); });
}

absl::StatusOr<VolumeInfo> VolumeSet::make(const Plan& wanted, Fill fill) {
  Plan plan = wanted;
  plan.row.incarnation = page::Incarnation::random();
  plan.row.origin_base = plan.base.origin;
  plan.row.created = clock_();
  // Most mistakes show before anything is written.
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<NamedVolume> taken,
                             find_volume(*catalog_.read(), plan.name));
  if (taken)
    return absl::AlreadyExistsError(fmt::format("{}: is there already", path_of(plan.name)));
  const std::string folder = plan.row.incarnation.hex();
  {
    const absl::MutexLock lock(&mutex_);
    making_.insert(folder);
  }
  const absl::Cleanup over = [&] {
    const absl::MutexLock lock(&mutex_);
    making_.erase(folder);
  };
  const absl::Status files = make_files(plan, fill);
  const absl::StatusOr<NamedVolume> made =
      files.ok() ? make_known(plan) : absl::StatusOr<NamedVolume>(files);
  if (!made.ok()) {
    // What stays is a folder without a row, which the next start removes.
    remove_folder(folder_of(plan.row)).IgnoreError();
    return made.status();
  }
  charge_idle(made->volume);
  note_origin(static_cast<NodeId>(made->entry.file.id), made->volume);
  return describe(*made);
}

absl::Status VolumeSet::make_files(const Plan& plan, Fill fill) {
  std::error_code error;
  if (fs::create_directory(folder_, error)) {
    fs::permissions(folder_, fs::perms::owner_all, error);
  }
  if (error) return base::errno_error(error.value(), folder_.string());
  BLOBCACHE_ASSIGN_OR_RETURN(
      const std::shared_ptr<volume::Volume> volume,
      volume::Volume::create(options_for(plan.row, plan.base.object), plan.row.size_bytes));
  const absl::Status filled = fill(*volume);
  const absl::Status closed = volume->close();
  BLOBCACHE_RETURN_IF_ERROR(filled);
  BLOBCACHE_RETURN_IF_ERROR(closed);
  const fs::path folder = folder_of(plan.row);
  if (const std::optional<OriginBase>& origin = plan.base.origin) {
    BLOBCACHE_RETURN_IF_ERROR(write_durably(
        folder / kBaseFile, fmt::format("{}/{}", origin->origin, origin->path), kSnapshotMode));
  }
  return write_durably(folder / kNameFile, plan.name, plan.mode);
}

absl::StatusOr<NamedVolume> VolumeSet::make_known(const Plan& plan) {
  NamedVolume made;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    std::optional<BlobRow> blob;
    if (plan.base.object != nullptr && !plan.base.origin) {
      BLOBCACHE_ASSIGN_OR_RETURN(blob, catalog.find_blob(plan.base.key));
      if (!blob) return absl::NotFoundError("the base was removed meanwhile");
    }
    BLOBCACHE_ASSIGN_OR_RETURN(
        made, add_volume(catalog, plan.name, plan.row, blob, plan.mode, plan.creator, effects));
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(edits_.run(edit).status());
  return made;
}

absl::Status VolumeSet::remove(std::string_view name) {
  BLOBCACHE_ASSIGN_OR_RETURN(const NamedVolume found, find(name));
  const std::unique_ptr<VolumeTable::Barrier> barrier = table_.bar(found.volume.id);
  if (barrier == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is in use; disconnect its clients first", path_of(name)));
  }
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(const NamedVolume dropped,
                               drop_volume(catalog, name, clock_(), effects));
    // Another of that name, made after this one was removed.
    if (dropped.volume.id != found.volume.id) return no_such_volume(name);
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(ballast_.with_room([&] { return edits_.run(edit).status(); }));
  discharge_idle(found.volume);
  {
    const absl::MutexLock lock(&mutex_);
    origins_.erase(static_cast<NodeId>(found.entry.file.id));
  }
  return remove_folder(folder_of(found.volume));
}

absl::StatusOr<VolumeRef> VolumeSet::open(NodeId node) {
  std::optional<VolumeRow> row;
  {
    Catalog::Lease catalog = catalog_.read();
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> file,
                               catalog->find_file(file_of_node(node)));
    if (!file) return no_such_node(node);
    // Not so a file under writing, whose volume is the business of whoever writes it.
    if (file->kind != FileKind::kVolume || !file->volume) {
      return absl::FailedPreconditionError(fmt::format("node {}: is no volume", node));
    }
    BLOBCACHE_ASSIGN_OR_RETURN(row, catalog->find_volume(*file->volume));
  }
  if (!row) return no_such_node(node);
  return open(*row);
}

absl::StatusOr<VolumeRef> VolumeSet::open(const VolumeRow& row) {
  return table_.get(row.id, [&] { return open_files(row); }, [this, row] { charge_idle(row); });
}

absl::StatusOr<std::shared_ptr<volume::Volume>> VolumeSet::open_files(const VolumeRow& row) {
  BLOBCACHE_ASSIGN_OR_RETURN(VolumeBase base, bases_.open(row));
  discharge_idle(row);
  absl::StatusOr<std::shared_ptr<volume::Volume>> opened =
      volume::Volume::open(options_for(row, std::move(base.object)));
  if (!opened.ok()) charge_idle(row);
  return opened;
}

absl::StatusOr<VolumeInfo> VolumeSet::resize(std::string_view name, uint64_t size_bytes) {
  BLOBCACHE_RETURN_IF_ERROR(check_size(size_bytes));
  BLOBCACHE_ASSIGN_OR_RETURN(NamedVolume found, find(name));
  if (is_snapshot(found)) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is a snapshot; make a clone of it, and that larger", path_of(name)));
  }
  if (size_bytes < found.volume.size_bytes) {
    return absl::InvalidArgumentError(fmt::format("{}: has {} bytes, and volumes only grow",
                                                  path_of(name), found.volume.size_bytes));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const VolumeRef volume, open(found.volume));
  BLOBCACHE_RETURN_IF_ERROR(volume->grow(size_bytes));
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    effects.names.push_back({kVolumesNode, std::string(name)});
    return catalog.resize_volume(found.volume.id, size_bytes);
  };
  BLOBCACHE_RETURN_IF_ERROR(edits_.run(edit).status());
  found.volume.size_bytes = size_bytes;
  return describe(found);
}

absl::StatusOr<CommittedBlob> VolumeSet::commit(std::string_view name, std::string_view bind_path,
                                                const Creator& creator, CommitWatcher& watcher) {
  BLOBCACHE_ASSIGN_OR_RETURN(const NamedVolume found, find(name));
  BLOBCACHE_ASSIGN_OR_RETURN(const VolumeRef volume, open(found.volume));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer,
                             names_.put(bind_path, creator, volume->stats().data_bytes));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<volume::VolumeCut> cut, volume->cut());
  const uint64_t size = cut->size_bytes();
  std::vector<std::byte> buffer(std::min(size, kCopyPiece));
  for (uint64_t done = 0; done < size;) {
    if (!watcher.on_progress(done, size)) return absl::CancelledError("the commit was ended");
    const auto piece = absl::MakeSpan(buffer).first(std::min<uint64_t>(buffer.size(), size - done));
    BLOBCACHE_RETURN_IF_ERROR(cut->read_wait(done, piece));
    BLOBCACHE_RETURN_IF_ERROR(writer->append(piece));
    done += piece.size();
  }
  return writer->commit();
}

absl::StatusOr<VolumeInfo> VolumeSet::copy(std::string_view name, std::string_view new_name,
                                           bool snapshot, const Creator& creator,
                                           CommitWatcher& watcher) {
  BLOBCACHE_RETURN_IF_ERROR(check_name(new_name));
  BLOBCACHE_ASSIGN_OR_RETURN(const NamedVolume found, find(name));
  BLOBCACHE_ASSIGN_OR_RETURN(const VolumeRef volume, open(found.volume));
  Plan plan;
  plan.name = new_name;
  plan.mode = snapshot ? kSnapshotMode : kVolumeMode;
  plan.creator = creator;
  BLOBCACHE_ASSIGN_OR_RETURN(plan.base, bases_.open(found.volume));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<volume::VolumeCut> cut, volume->cut());
  plan.row.size_bytes = cut->size_bytes();
  return make(plan, [&](volume::Volume& to) { return copy_cut(*cut, to, watcher); });
}

/// What the cut has of its own, and its zeros where the base has something else.
absl::Status VolumeSet::copy_cut(volume::VolumeCut& cut, volume::Volume& to,
                                 CommitWatcher& watcher) {
  constexpr size_t kRuns = 1024;
  const uint64_t size = cut.size_bytes();
  const bool over_base = to.description().has_base;
  std::vector<std::byte> buffer(std::min(size, kCopyPiece));
  for (uint64_t done = 0; done < size;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<volume::Run> runs,
                               cut.map_wait(done, size - done, kRuns));
    for (const volume::Run& run : runs) {
      if (run.kind == volume::Run::Kind::kZero && over_base) {
        BLOBCACHE_RETURN_IF_ERROR(to.write_zeroes_wait(done, run.length_bytes));
      }
      if (run.kind != volume::Run::Kind::kData) {
        done += run.length_bytes;
        continue;
      }
      for (const uint64_t end = done + run.length_bytes; done < end;) {
        if (!watcher.on_progress(done, size)) return absl::CancelledError("the copy was ended");
        const auto piece =
            absl::MakeSpan(buffer).first(std::min<uint64_t>(buffer.size(), end - done));
        BLOBCACHE_RETURN_IF_ERROR(cut.read_wait(done, piece));
        BLOBCACHE_RETURN_IF_ERROR(to.write_wait(done, piece));
        done += piece.size();
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace blobcache::tree
