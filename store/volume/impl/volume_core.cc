#include "store/volume/impl/volume_core.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "base/status.h"

namespace blobcache::volume {
namespace {

JournalPlace journal_place(const VolumeFiles& files, bool is_file) {
  if (is_file) return {files.header.get(), kHeaderFileBytes, true};
  return {files.journal.get(), 0, false};
}

}  // namespace

std::filesystem::path file_of(const VolumeOptions& options, std::string_view name) {
  if (options.in_folder) return options.path / name;
  std::filesystem::path path = options.path;
  path += '.';
  path += name;
  return path;
}

std::filesystem::path folder_of(const VolumeOptions& options) {
  return options.in_folder ? options.path : parent_of(options.path);
}

VolumeCore::VolumeCore(const VolumeOptions& volume_options, const Header& volume_header,
                       VolumeFiles opened)
    : options(volume_options),
      incarnation(volume_header.incarnation),
      is_file(volume_header.is_file != 0),
      files(std::move(opened)),
      calls(volume_options.disk_fault),
      charge(volume_options.budget),
      checkpoint(volume_header.checkpoint),
      header_file(calls, files.header.get()),
      map(calls, {std::move(files.map), file_of(volume_options, "map"), is_file}, incarnation),
      journal(calls, journal_place(files, is_file), incarnation),
      length(journal,
             {volume_header.size_bytes, volume_header.base_bytes, volume_header.is_stale != 0}),
      cache(volume_options.cached_blocks,
            [this](uint64_t number) { return map.load(number, checkpoint.load(), false); }),
      header(volume_header) {}

absl::Status VolumeCore::usable() const {
  if (closed.load(std::memory_order_relaxed)) {
    return absl::FailedPreconditionError("the volume is closed");
  }
  return failure();
}

absl::Status VolumeCore::failure() const {
  if (!failed_.load(std::memory_order_relaxed)) return absl::OkStatus();
  const absl::MutexLock lock(&failure_mutex_);
  return failure_;
}

void VolumeCore::fail(const absl::Status& why) {
  const absl::MutexLock lock(&failure_mutex_);
  if (!failure_.ok()) return;
  failure_ = absl::UnavailableError(
      fmt::format("the volume takes no writes until it is opened again, as its disk failed: {}",
                  base::message(why)));
  failed_.store(true);
}

absl::Status VolumeCore::check_change(uint64_t offset, uint64_t bytes) const {
  if (!is_file) return check_range(offset, bytes);
  if (offset > Volume::kMaxFileLength || bytes > Volume::kMaxFileLength - offset) {
    return base::posix_error(EFBIG,
                             fmt::format("a file has at most {} bytes", Volume::kMaxFileLength));
  }
  return closed.load(std::memory_order_relaxed) ? usable() : absl::OkStatus();
}

absl::Status VolumeCore::check_range(uint64_t offset, uint64_t bytes) const {
  const uint64_t size = length.bytes();
  if (offset > size || bytes > size - offset) {
    return absl::OutOfRangeError(
        fmt::format("bytes {} to {} of a volume of {}", offset, offset + bytes, size));
  }
  return closed.load(std::memory_order_relaxed) ? usable() : absl::OkStatus();
}

absl::Status VolumeCore::sync_data() {
  // One who finds that nothing is left to sync must not be ahead of the sync that does it.
  const absl::MutexLock lock(&sync_mutex_);
  BLOBCACHE_RETURN_IF_ERROR(failure());
  if (!unsynced_.exchange(false)) return absl::OkStatus();
  syncs.fetch_add(1, std::memory_order_relaxed);
  absl::Status status = calls.sync(files.data.get());
  if (!status.ok()) fail(status);
  return status;
}

absl::Status VolumeCore::sync_journal() {
  absl::Status status = journal.sync();
  if (!status.ok()) fail(status);
  return status;
}

std::shared_ptr<CutState> VolumeCore::active_cut() {
  const absl::MutexLock lock(&cut_mutex);
  return cut;
}

absl::StatusOr<std::shared_ptr<CutState>> VolumeCore::begin_cut() {
  CutState::Parts parts;
  parts.calls = &calls;
  parts.budget = options.budget;
  BLOBCACHE_ASSIGN_OR_RETURN(parts.side, calls.open(folder_of(options), O_TMPFILE | O_RDWR));
  // What a file's length was then goes with what its pages were.
  return length.visit(
      [&](const FileLength::Value& now) -> absl::StatusOr<std::shared_ptr<CutState>> {
        const absl::MutexLock lock(&cut_mutex);
        if (cut != nullptr) {
          return absl::FailedPreconditionError("another cut of the volume is in use");
        }
        parts.size_bytes = now.bytes;
        parts.base_bytes = now.base_bytes;
        parts.epoch = ++last_epoch;
        cut = std::make_shared<CutState>(std::move(parts));
        cut_epoch.store(last_epoch);
        return cut;
      });
}

void VolumeCore::end_cut() {
  const absl::MutexLock lock(&cut_mutex);
  cut_epoch.store(0);
  if (cut != nullptr) cut->give_back();
  cut.reset();
}

absl::Status VolumeCore::begin_operation() {
  const absl::MutexLock lock(&operations_mutex_);
  if (closed.load()) return absl::FailedPreconditionError("the volume is closed");
  ++operations_;
  return absl::OkStatus();
}

void VolumeCore::end_operation() {
  const absl::MutexLock lock(&operations_mutex_);
  --operations_;
}

bool VolumeCore::close_for_operations() {
  const absl::MutexLock lock(&operations_mutex_);
  if (closed.exchange(true)) return false;
  const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(operations_mutex_) {
    return operations_ == 0;
  };
  operations_mutex_.Await(absl::Condition(&none));
  return true;
}

}  // namespace blobcache::volume
