#include "store/volume/impl/change.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/page/object.h"
#include "store/page/page_map.h"
#include "store/volume/impl/checkpointer.h"
#include "store/volume/impl/page_reader.h"

namespace blobcache::volume {

using page::kExtentShift;
using page::kExtentSize;
using page::kPageShift;
using page::kPageSize;
using page::kPagesPerExtent;

namespace {

constexpr uint64_t kBlockBytes = page::kExtentsPerMapBlock * kExtentSize;

const std::byte* zeros() {
  static const std::vector<std::byte> extent(kExtentSize);
  return extent.data();
}

}  // namespace

Change::Change(std::shared_ptr<VolumeImpl> volume, const ChangeOrder& order, Done done)
    : volume_(std::move(volume)),
      core_(volume_->core()),
      order_(order),
      done_(std::move(done)),
      at_(order.offset) {}

void Change::run() {
  absl::Status status = core_.failure();
  if (status.ok()) status = go_on();
  if (status.ok() && waits_) {
    waits_ = false;
    fetch_base();
    return;
  }
  finish(status);
}

absl::Status Change::go_on() {
  while (at_ < end() && !waits_) {
    if (order_.kind == ChangeOrder::Kind::kZero) {
      BLOBCACHE_ASSIGN_OR_RETURN(const bool skipped, skip_block());
      if (skipped) continue;
    }
    BLOBCACHE_RETURN_IF_ERROR(step());
  }
  return absl::OkStatus();
}

absl::Status Change::step() {
  BLOBCACHE_ASSIGN_OR_RETURN(const BlockRef block, core_.block_at(at_));
  for (;;) {
    absl::Status why;
    switch (apply(*block, why)) {
      case Applied::kDone:
        at_ += next_length();
        if (volume_->checkpointer().wants_to_run()) volume_->checkpointer().run_in_background();
        return absl::OkStatus();
      case Applied::kFailed:
        return why;
      case Applied::kNoIntent:
        BLOBCACHE_RETURN_IF_ERROR(volume_->checkpointer().mark_intent(block));
        break;
      case Applied::kNoRoom:
        BLOBCACHE_RETURN_IF_ERROR(volume_->checkpointer().make_room());
        break;
      case Applied::kNoBase:
        waits_ = true;
        return absl::OkStatus();
      case Applied::kStale:
        BLOBCACHE_RETURN_IF_ERROR(volume_->cleaner().run());
        break;
      case Applied::kCut:
      case Applied::kWait:
        return absl::InternalError("a worker was told to wait for a worker");
    }
  }
}

uint64_t Change::next_length() const { return length_of_step(at_, end() - at_); }

Applied Change::apply(Block& block, absl::Status& why) {
  return next_length() % kPageSize != 0 ? apply_part(block, why) : apply_pages(block, why);
}

Applied Change::apply_part(Block& block, absl::Status& why) {
  PageWriter::PartOfPage part;
  part.page = at_ >> kPageShift;
  part.begin = static_cast<uint32_t>(at_ % kPageSize);
  part.length = static_cast<uint32_t>(next_length());
  part.grows = order_.grows;
  if (order_.kind == ChangeOrder::Kind::kWrite) part.bytes = order_.bytes + (at_ - order_.offset);
  if (order_.kind == ChangeOrder::Kind::kFillZero) part.bytes = zeros();
  if (base_page_number_ == part.page) {
    why = base_status_;
    if (!why.ok()) return Applied::kFailed;
    part.base_page = base_page_.data();
  }
  return PageWriter(core_, true).write_part(block, part, why);
}

Applied Change::apply_pages(Block& block, absl::Status& why) {
  PageRun run;
  run.extent = at_ >> kExtentShift;
  run.first = static_cast<uint32_t>(at_ >> kPageShift) % kPagesPerExtent;
  run.count = static_cast<uint32_t>(next_length() >> kPageShift);
  if (order_.grows) run.end = at_ + run.bytes();
  PageWriter writer(core_, true);
  switch (order_.kind) {
    case ChangeOrder::Kind::kWrite:
      return writer.write(block, run, order_.bytes + (at_ - order_.offset), why);
    case ChangeOrder::Kind::kFillZero:
      return writer.write(block, run, zeros(), why);
    case ChangeOrder::Kind::kZero:
      break;
  }
  return writer.make_zero(block, run.extent, run.mask(), why);
}

absl::StatusOr<bool> Change::skip_block() {
  if (at_ % kBlockBytes != 0 && at_ != order_.offset) return false;
  const uint64_t block_end = (at_ / kBlockBytes + 1) * kBlockBytes;
  const uint64_t stop = std::min(block_end, end());
  const PageWriter writer(core_, true);
  bool changes = false;
  BLOBCACHE_RETURN_IF_ERROR(core_.cache.peek(at_ / kBlockBytes, [&](const Block& block) {
    for (uint64_t extent = at_ >> kExtentShift; extent << kExtentShift < stop; ++extent) {
      const page::PageMask pages = page::pages_touched(extent, at_, stop - at_);
      changes = changes || writer.changes_by_zeros(block, extent, pages);
    }
  }));
  if (!changes) at_ = stop;
  return !changes;
}

void Change::fetch_base() {
  const uint64_t offset = at_ >> kPageShift << kPageShift;
  const uint64_t base_bytes = core_.length.base_bytes();
  if (offset >= base_bytes) {
    // It was cut off in the meantime.
    core_.options.workers->run([self = shared_from_this()] { self->run(); });
    return;
  }
  const uint64_t length = std::min(kPageSize, base_bytes - offset);
  core_.options.base->read(offset, length,
                           [self = shared_from_this()](absl::StatusOr<page::PinnedRange> bytes) {
                             self->take_base(std::move(bytes));
                           });
}

void Change::take_base(absl::StatusOr<page::PinnedRange> bytes) {
  base_page_number_ = at_ >> kPageShift;
  base_status_ = bytes.status();
  base_page_.fill(std::byte{0});
  if (bytes.ok()) {
    size_t at = 0;
    for (const iovec& piece : bytes->pieces()) {
      std::memcpy(base_page_.data() + at, piece.iov_base, piece.iov_len);
      at += piece.iov_len;
    }
  }
  core_.options.workers->run([self = shared_from_this()] { self->run(); });
}

void Change::finish(absl::Status status) {
  if (status.ok() && order_.length_after != 0) status = volume_->grow_file(order_.length_after);
  if (status.ok() && order_.fua) {
    volume_->flush_operation(std::move(done_));
    return;
  }
  core_.end_operation();
  done_(std::move(status));
}

}  // namespace blobcache::volume
