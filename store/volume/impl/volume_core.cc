#include "store/volume/impl/volume_core.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <utility>

#include "base/status.h"

namespace blobcache::volume {

VolumeCore::VolumeCore(const VolumeOptions& volume_options, const Header& volume_header,
                       VolumeFiles opened)
    : options(volume_options),
      incarnation(volume_header.incarnation),
      base_bytes(volume_header.base_bytes),
      files(std::move(opened)),
      calls(volume_options.disk_fault),
      charge(volume_options.budget),
      size_bytes(volume_header.size_bytes),
      checkpoint(volume_header.checkpoint),
      header_file(calls, files.header.get()),
      map(calls, files.map.get(), incarnation),
      journal(calls, files.journal.get(), incarnation),
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

absl::Status VolumeCore::check_range(uint64_t offset, uint64_t length) const {
  const uint64_t size = size_bytes.load(std::memory_order_relaxed);
  if (offset > size || length > size - offset) {
    return absl::OutOfRangeError(
        fmt::format("bytes {} to {} of a volume of {}", offset, offset + length, size));
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
  BLOBCACHE_ASSIGN_OR_RETURN(parts.side, calls.open(options.path, O_TMPFILE | O_RDWR));
  const absl::MutexLock lock(&cut_mutex);
  if (cut != nullptr) {
    return absl::FailedPreconditionError("another cut of the volume is in use");
  }
  parts.size_bytes = size_bytes.load();
  parts.epoch = ++last_epoch;
  cut = std::make_shared<CutState>(std::move(parts));
  cut_epoch.store(last_epoch);
  return cut;
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
