#include "store/volume/volume.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "store/volume/impl/file_calls.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/journal.h"
#include "store/volume/impl/map_file.h"
#include "store/volume/impl/recovery.h"
#include "store/volume/impl/volume_core.h"
#include "store/volume/impl/volume_impl.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;

/// Begins what `begin` begins and waits for its answer.
template <typename Answer, typename Begin>
Answer wait_for(Answer answer, const Begin& begin) {
  absl::Notification ready;
  begin([&](Answer result) {
    answer = std::move(result);
    ready.Notify();
  });
  ready.WaitForNotification();
  return answer;
}

template <typename Begin>
absl::Status wait_for_status(const Begin& begin) {
  return wait_for(absl::OkStatus(), begin);
}

absl::StatusOr<BootId> boot_id_of(const VolumeOptions& options) {
  if (options.boot_id == BootId()) return BootId::current();
  return options.boot_id;
}

absl::Status check_options(const VolumeOptions& options) {
  if (options.workers == nullptr || options.cached_blocks < VolumeOptions::kMinCachedBlocks) {
    return absl::InvalidArgumentError("a volume needs workers and some blocks of its map");
  }
  return absl::OkStatus();
}

absl::StatusOr<VolumeFiles> open_files(const FileCalls& calls, const fs::path& path, int flags) {
  VolumeFiles files;
  BLOBCACHE_ASSIGN_OR_RETURN(files.data, calls.open(path / "data", O_RDWR | flags));
  BLOBCACHE_ASSIGN_OR_RETURN(files.map, calls.open(path / "map", O_RDWR | flags));
  BLOBCACHE_ASSIGN_OR_RETURN(files.journal, calls.open(path / "journal", O_RDWR | flags));
  return files;
}

/// The same of a file volume, whose map is there if a checkpoint was made.
absl::StatusOr<VolumeFiles> open_file_volume(const FileCalls& calls, const VolumeOptions& options,
                                             const Header& header) {
  VolumeFiles files;
  BLOBCACHE_ASSIGN_OR_RETURN(files.data, calls.open(file_of(options, "data"), O_RDWR));
  absl::StatusOr<base::UniqueFd> map = calls.open(file_of(options, "map"), O_RDWR);
  if (map.ok()) {
    files.map = *std::move(map);
  } else if (!absl::IsNotFound(map.status()) || header.checkpoint > 0) {
    return map.status();
  }
  return files;
}

/// What is in a new volume's folder, durable but for the header.
absl::Status fill_files(const FileCalls& calls, const VolumeFiles& files, const Header& header) {
  BLOBCACHE_RETURN_IF_ERROR(calls.truncate(files.data.get(), data_file_bytes(header.size_bytes)));
  BLOBCACHE_RETURN_IF_ERROR(calls.truncate(files.map.get(), MapFile::bytes_for(header.size_bytes)));
  Journal journal(calls, {files.journal.get(), 0, false}, header.incarnation);
  BLOBCACHE_RETURN_IF_ERROR(journal.format());
  for (const base::UniqueFd* file : {&files.data, &files.map, &files.journal}) {
    BLOBCACHE_RETURN_IF_ERROR(calls.sync_all(file->get()));
  }
  return absl::OkStatus();
}

absl::Status create_files(const FileCalls& calls, const fs::path& path, const Header& header) {
  absl::Status made = calls.make_folder(path);
  if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  std::error_code ignored;
  if (fs::exists(path / "header", ignored)) {
    return absl::AlreadyExistsError(fmt::format("{}: there is a volume", path.string()));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const VolumeFiles files, open_files(calls, path, O_CREAT | O_TRUNC));
  BLOBCACHE_RETURN_IF_ERROR(fill_files(calls, files, header));
  // The header's name is what makes it a volume.
  const fs::path unfinished = path / "header.new";
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd header_fd,
                             calls.open(unfinished, O_RDWR | O_CREAT | O_TRUNC));
  BLOBCACHE_RETURN_IF_ERROR(HeaderFile(calls, header_fd.get()).write(header));
  BLOBCACHE_RETURN_IF_ERROR(calls.sync_all(header_fd.get()));
  BLOBCACHE_RETURN_IF_ERROR(calls.sync_folder(path));
  BLOBCACHE_RETURN_IF_ERROR(calls.rename(unfinished, path / "header"));
  BLOBCACHE_RETURN_IF_ERROR(calls.sync_folder(path));
  return calls.sync_folder(parent_of(path));
}

absl::StatusOr<base::UniqueFd> open_header(const FileCalls& calls, const VolumeOptions& options,
                                           int flags) {
  absl::StatusOr<base::UniqueFd> fd = calls.open(file_of(options, "header"), flags);
  if (absl::IsNotFound(fd.status())) {
    return absl::NotFoundError(fmt::format("{}: no volume", options.path.string()));
  }
  return fd;
}

absl::Status lock_header(const base::UniqueFd& header, const fs::path& path) {
  if (::flock(header.get(), LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("{}: the volume is in use", path.string()));
}

absl::StatusOr<Header> new_header(const VolumeOptions& options, uint64_t size_bytes) {
  Header header;
  header.incarnation = page::Incarnation::random();
  header.size_bytes = size_bytes;
  if (options.base != nullptr) {
    header.has_base = 1;
    header.base = options.base->key();
    header.base_bytes = std::min(size_bytes, options.base->size_bytes());
  }
  BLOBCACHE_ASSIGN_OR_RETURN(header.boot_id, boot_id_of(options));
  return header;
}

absl::Status check_base(const VolumeOptions& options, const Header& header) {
  const bool has_base = options.base != nullptr;
  if (has_base != (header.has_base != 0) || (has_base && options.base->key() != header.base)) {
    return absl::FailedPreconditionError(
        fmt::format("{}: the volume is over another base", options.path.string()));
  }
  if (has_base && options.base->size_bytes() < header.base_bytes) {
    return absl::FailedPreconditionError(
        fmt::format("{}: the volume's base is too short", options.path.string()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<Volume>> Volume::create(const VolumeOptions& options,
                                                       uint64_t size_bytes) {
  BLOBCACHE_RETURN_IF_ERROR(check_options(options));
  if (size_bytes == 0 || size_bytes > kMaxSize) {
    return absl::InvalidArgumentError("a volume has 1 byte to 1 PiB");
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const Header header, new_header(options, size_bytes));
  BLOBCACHE_RETURN_IF_ERROR(create_files(FileCalls(options.disk_fault), options.path, header));
  return open(options);
}

absl::StatusOr<std::shared_ptr<Volume>> Volume::create_file(const VolumeOptions& options,
                                                            uint64_t length_bytes) {
  BLOBCACHE_RETURN_IF_ERROR(check_options(options));
  if (length_bytes > kMaxFileLength) {
    return base::posix_error(EFBIG, fmt::format("a file has at most {} bytes", kMaxFileLength));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(Header header, new_header(options, length_bytes));
  header.is_file = 1;
  const FileCalls calls(options.disk_fault);
  if (options.in_folder) {
    absl::Status made = calls.make_folder(options.path);
    if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  }
  constexpr int kNew = O_RDWR | O_CREAT | O_EXCL;
  VolumeFiles files;
  BLOBCACHE_ASSIGN_OR_RETURN(files.header, calls.open(file_of(options, "header"), kNew));
  BLOBCACHE_RETURN_IF_ERROR(lock_header(files.header, options.path));
  BLOBCACHE_ASSIGN_OR_RETURN(files.data, calls.open(file_of(options, "data"), kNew));
  auto volume = std::make_shared<VolumeImpl>(options, header, std::move(files));
  BLOBCACHE_RETURN_IF_ERROR(volume->begin_file());
  return volume;
}

absl::StatusOr<std::shared_ptr<Volume>> Volume::open(const VolumeOptions& options) {
  BLOBCACHE_RETURN_IF_ERROR(check_options(options));
  const FileCalls calls(options.disk_fault);
  BLOBCACHE_ASSIGN_OR_RETURN(base::UniqueFd header_fd, open_header(calls, options, O_RDWR));
  BLOBCACHE_RETURN_IF_ERROR(lock_header(header_fd, options.path));
  BLOBCACHE_ASSIGN_OR_RETURN(const Header header, HeaderFile(calls, header_fd.get()).read());
  BLOBCACHE_RETURN_IF_ERROR(check_base(options, header));
  BLOBCACHE_ASSIGN_OR_RETURN(const BootId boot_id, boot_id_of(options));
  absl::StatusOr<VolumeFiles> files = header.is_file != 0 ? open_file_volume(calls, options, header)
                                                          : open_files(calls, options.path, 0);
  if (absl::IsNotFound(files.status())) {
    return base::error(absl::StatusCode::kDataLoss, base::message(files.status()));
  }
  if (!files.ok()) return files.status();
  files->header = std::move(header_fd);
  const auto volume = std::make_shared<VolumeImpl>(options, header, *std::move(files));
  BLOBCACHE_RETURN_IF_ERROR(Recovery(volume->core()).run(boot_id));
  return volume;
}

absl::Status Volume::remove_file(const VolumeOptions& options) {
  const FileCalls calls(options.disk_fault);
  // Without its header it is none.
  for (const char* name : {"header", "data", "map"}) {
    absl::Status status = calls.unlink(file_of(options, name));
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  if (!options.in_folder) return absl::OkStatus();
  absl::Status status = calls.remove_folder(options.path);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<VolumeDescription> Volume::describe(const fs::path& path) {
  const FileCalls calls(nullptr);
  VolumeOptions options;
  options.path = path;
  absl::StatusOr<base::UniqueFd> fd = open_header(calls, options, O_RDONLY);
  if (!fd.ok()) {
    options.in_folder = false;
    BLOBCACHE_ASSIGN_OR_RETURN(fd, open_header(calls, options, O_RDONLY));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const Header header, HeaderFile(calls, fd->get()).read());
  return describe_header(header);
}

absl::Status VolumeCut::read_wait(uint64_t offset, absl::Span<std::byte> into) {
  return wait_for_status([&](Done done) { read(offset, into, std::move(done)); });
}

absl::StatusOr<std::vector<Run>> VolumeCut::map_wait(uint64_t offset, uint64_t length,
                                                     size_t max_runs) {
  return wait_for(absl::StatusOr<std::vector<Run>>(),
                  [&](MapDone done) { map(offset, length, max_runs, std::move(done)); });
}

absl::Status Volume::read_wait(uint64_t offset, absl::Span<std::byte> into) {
  return wait_for_status([&](Done done) { read(offset, into, std::move(done)); });
}

absl::Status Volume::write_wait(uint64_t offset, absl::Span<const std::byte> bytes, bool fua) {
  return wait_for_status([&](Done done) { write(offset, bytes, fua, std::move(done)); });
}

absl::Status Volume::write_zeroes_wait(uint64_t offset, uint64_t length, ZeroFlags flags) {
  return wait_for_status([&](Done done) { write_zeroes(offset, length, flags, std::move(done)); });
}

absl::Status Volume::trim_wait(uint64_t offset, uint64_t length, bool fua) {
  return wait_for_status([&](Done done) { trim(offset, length, fua, std::move(done)); });
}

absl::Status Volume::flush_wait() {
  return wait_for_status([&](Done done) { flush(std::move(done)); });
}

absl::Status Volume::set_length_wait(uint64_t length_bytes) {
  return wait_for_status([&](Done done) { set_length(length_bytes, std::move(done)); });
}

absl::StatusOr<std::vector<Run>> Volume::map_wait(uint64_t offset, uint64_t length,
                                                  size_t max_runs) {
  return wait_for(absl::StatusOr<std::vector<Run>>(),
                  [&](MapDone done) { map(offset, length, max_runs, std::move(done)); });
}

absl::StatusOr<std::vector<Run>> Volume::map_own_wait(uint64_t offset, uint64_t length,
                                                      size_t max_runs) {
  return wait_for(absl::StatusOr<std::vector<Run>>(),
                  [&](MapDone done) { map_own(offset, length, max_runs, std::move(done)); });
}

}  // namespace blobcache::volume
