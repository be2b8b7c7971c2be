#include "store/volume/impl/read_operation.h"

#include <sys/uio.h>

#include <cstring>
#include <utility>

#include "base/status.h"
#include "store/page/object.h"
#include "store/volume/impl/block_cache.h"

namespace blobcache::volume {

ReadOperation::ReadOperation(std::shared_ptr<VolumeImpl> volume, std::shared_ptr<CutState> cut,
                             const ReadPart& part, Done done)
    : volume_(std::move(volume)), cut_(std::move(cut)), part_(part), done_(std::move(done)) {}

void ReadOperation::run() {
  MissingParts missing;
  note(read_own(missing));
  {
    const absl::MutexLock lock(&mutex_);
    if (!status_.ok()) missing.clear();
  }
  for (const ReadPart& part : missing) {
    for (uint64_t at = 0; at < part.into.size(); at += page::Object::kMaxRead) {
      ask_base({part.offset + at, part.into.subspan(at, page::Object::kMaxRead)});
    }
  }
  if (pending_.fetch_sub(1) == 1) finish();
}

absl::Status ReadOperation::read_own(MissingParts& missing) {
  VolumeCore& core = volume_->core();
  PageReader reader(core, cut_.get());
  ReadPart rest = part_;
  absl::Status status;
  while (status.ok() && !rest.into.empty()) {
    const uint64_t length = length_in_extent(rest.offset, rest.into.size());
    BLOBCACHE_ASSIGN_OR_RETURN(const BlockRef block, core.block_at(rest.offset));
    status = reader.read(*block, {rest.offset, rest.into.first(length)}, missing);
    rest = {rest.offset + length, rest.into.subspan(length)};
  }
  // Of what was not put by, since the cut broke, anything may have been read.
  if (cut_ != nullptr && !cut_->status().ok()) return cut_->status();
  return status;
}

void ReadOperation::ask_base(const ReadPart& part) {
  pending_.fetch_add(1);
  volume_->core().options.base->read(
      part.offset, part.into.size(),
      [self = shared_from_this(), part](absl::StatusOr<page::PinnedRange> bytes) {
        self->take_base(part, std::move(bytes));
      });
}

void ReadOperation::take_base(const ReadPart& part, absl::StatusOr<page::PinnedRange> bytes) {
  note(bytes.status());
  if (bytes.ok()) {
    size_t at = 0;
    for (const iovec& piece : bytes->pieces()) {
      std::memcpy(part.into.data() + at, piece.iov_base, piece.iov_len);
      at += piece.iov_len;
    }
    bytes->release();
  }
  if (pending_.fetch_sub(1) != 1) return;
  // This may be a thread of the page store, which must not wait for what `done` does.
  volume_->core().options.workers->run([self = shared_from_this()] { self->finish(); });
}

void ReadOperation::note(const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  status_.Update(status);
}

void ReadOperation::finish() {
  absl::Status status;
  {
    const absl::MutexLock lock(&mutex_);
    status = status_;
  }
  // A file may have become shorter since the read began.
  VolumeCore& core = volume_->core();
  if (status.ok() && core.is_file && cut_ == nullptr) {
    const uint64_t end = part_.offset + part_.into.size();
    if (end > core.length.bytes()) status = absl::OutOfRangeError("the file ends before");
  }
  core.end_operation();
  done_(status);
}

}  // namespace blobcache::volume
