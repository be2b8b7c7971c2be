#include "store/volume/impl/volume_impl.h"

#include <sys/file.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/object.h"
#include "store/page/page_map.h"
#include "store/page/pinned_range.h"
#include "store/volume/impl/base_holes.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/change.h"
#include "store/volume/impl/map_file.h"
#include "store/volume/impl/map_walk.h"
#include "store/volume/impl/page_reader.h"
#include "store/volume/impl/page_writer.h"
#include "store/volume/impl/read_operation.h"

namespace blobcache::volume {

using page::kExtentShift;
using page::kPageShift;
using page::kPageSize;

namespace {

class VolumeCutImpl final : public VolumeCut {
 public:
  VolumeCutImpl(std::shared_ptr<VolumeImpl> volume, std::shared_ptr<CutState> state)
      : volume_(std::move(volume)), state_(std::move(state)) {}
  ~VolumeCutImpl() override { volume_->core().end_cut(); }
  VolumeCutImpl(const VolumeCutImpl&) = delete;
  VolumeCutImpl& operator=(const VolumeCutImpl&) = delete;

  [[nodiscard]] uint64_t size_bytes() const override { return state_->size_bytes(); }
  void read(uint64_t offset, absl::Span<std::byte> into, Done done) override {
    volume_->read_cut(state_, offset, into, std::move(done));
  }
  void map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override {
    volume_->map_cut(state_, offset, length, max_runs, std::move(done));
  }

 private:
  const std::shared_ptr<VolumeImpl> volume_;
  const std::shared_ptr<CutState> state_;
};

absl::Status check_cut_range(const CutState& cut, uint64_t offset, uint64_t length) {
  if (offset > cut.size_bytes() || length > cut.size_bytes() - offset) {
    return absl::OutOfRangeError("not inside the cut");
  }
  return absl::OkStatus();
}

}  // namespace

VolumeImpl::VolumeImpl(const VolumeOptions& options, const Header& header, VolumeFiles files)
    : core_(options, header, std::move(files)),
      checkpointer_(core_),
      cleaner_(core_, checkpointer_),
      flusher_(core_) {}

VolumeDescription describe_header(const Header& header) {
  VolumeDescription description;
  description.incarnation = header.incarnation;
  description.is_file = header.is_file != 0;
  description.size_bytes = header.size_bytes;
  description.has_base = header.has_base != 0;
  description.base = header.base;
  description.base_bytes = header.base_bytes;
  description.data_bytes = header.data_pages << kPageShift;
  return description;
}

uint64_t VolumeImpl::identity() const {
  const absl::MutexLock lock(&core_.header_mutex);
  uint64_t start = 0;
  std::memcpy(&start, core_.header.incarnation.bytes.data(), sizeof(start));
  return start;
}

std::string VolumeImpl::about() const {
  const absl::MutexLock lock(&core_.header_mutex);
  const bool has_base = core_.header.has_base != 0;
  if (core_.is_file) return has_base ? "file over a base" : "file";
  return has_base ? "volume over a base" : "volume";
}

VolumeDescription VolumeImpl::description() const {
  const FileLength::Value now = core_.length.visit([](const FileLength::Value& is) { return is; });
  const absl::MutexLock lock(&core_.header_mutex);
  VolumeDescription description = describe_header(core_.header);
  description.size_bytes = now.bytes;
  description.base_bytes = now.base_bytes;
  description.data_bytes = core_.data_pages.load() << kPageShift;
  return description;
}

bool VolumeImpl::try_read(uint64_t offset, absl::Span<std::byte> into) {
  return core_.check_range(offset, into.size()).ok() && read_now(offset, into);
}

bool VolumeImpl::read_now(uint64_t offset, absl::Span<std::byte> into) {
  VolumeCounters& counters = core_.counters_of(offset);
  const size_t length = into.size();
  PageReader reader(core_, nullptr);
  while (!into.empty()) {
    const uint64_t part = length_in_extent(offset, into.size());
    const BlockRef block = core_.cache.find(page::map_block_of(offset >> kExtentShift));
    if (!block || !reader.read_now(*block, {offset, into.first(part)})) return false;
    offset += part;
    into.remove_prefix(part);
  }
  // A file may have become shorter meanwhile.
  if (core_.is_file && !core_.check_range(offset, 0).ok()) return false;
  counters.reads.fetch_add(1, std::memory_order_relaxed);
  counters.bytes_read.fetch_add(length, std::memory_order_relaxed);
  return true;
}

bool VolumeImpl::try_pin(uint64_t offset, uint64_t length, page::PinnedRange& range) {
  if (length == 0 || length > page::Object::kMaxRead) return false;
  if (!core_.check_range(offset, length).ok()) return false;
  PageReader reader(core_, nullptr);
  std::optional<Run::Kind> kind;
  for (uint64_t at = offset; at < offset + length;) {
    const uint64_t part = length_in_extent(at, offset + length - at);
    const BlockRef block = core_.cache.find(page::map_block_of(at >> kExtentShift));
    if (!block) return false;
    const Run::Kind here = reader.kind_of(*block, at, part);
    if (here == Run::Kind::kData || kind.value_or(here) != here) return false;
    kind = here;
    at += part;
  }
  if (kind == Run::Kind::kZero) {
    range = page::PinnedRange::of_zeros(length);
  } else if (!core_.options.base->try_read(offset, length, range)) {
    return false;
  }
  if (core_.is_file && !core_.check_range(offset, length).ok()) return false;
  VolumeCounters& counters = core_.counters_of(offset);
  counters.reads.fetch_add(1, std::memory_order_relaxed);
  counters.bytes_read.fetch_add(length, std::memory_order_relaxed);
  return true;
}

void VolumeImpl::read(uint64_t offset, absl::Span<std::byte> into, Done done) {
  if (absl::Status status = core_.check_range(offset, into.size()); !status.ok()) {
    done(std::move(status));
    return;
  }
  if (read_now(offset, into)) {
    done(absl::OkStatus());
    return;
  }
  VolumeCounters& counters = core_.counters_of(offset);
  counters.reads.fetch_add(1, std::memory_order_relaxed);
  counters.bytes_read.fetch_add(into.size(), std::memory_order_relaxed);
  counters.waits.fetch_add(1, std::memory_order_relaxed);
  read_cut(nullptr, offset, into, std::move(done));
}

void VolumeImpl::read_cut(std::shared_ptr<CutState> cut, uint64_t offset,
                          absl::Span<std::byte> into, Done done) {
  if (cut != nullptr) {
    if (absl::Status status = check_cut_range(*cut, offset, into.size()); !status.ok()) {
      done(std::move(status));
      return;
    }
  }
  if (absl::Status status = core_.begin_operation(); !status.ok()) {
    done(std::move(status));
    return;
  }
  const auto operation = std::make_shared<ReadOperation>(shared_from_this(), std::move(cut),
                                                         ReadPart{offset, into}, std::move(done));
  core_.options.workers->run([operation] { operation->run(); });
}

void VolumeImpl::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) {
  absl::Status status = core_.check_change(offset, bytes.size());
  if (status.ok()) status = core_.usable();
  const uint64_t written = status.ok() ? write_now(offset, bytes, status) : 0;
  if (!status.ok()) {
    done(std::move(status));
    return;
  }
  VolumeCounters& counters = core_.counters_of(offset);
  counters.writes.fetch_add(1, std::memory_order_relaxed);
  counters.bytes_written.fetch_add(bytes.size(), std::memory_order_relaxed);
  if (written == bytes.size()) {
    if (checkpointer_.wants_to_run() && core_.begin_operation().ok()) {
      core_.options.workers->run([self = shared_from_this()] {
        self->checkpointer_.run_in_background();
        self->core_.end_operation();
      });
    }
    fua ? flush(std::move(done)) : done(absl::OkStatus());
    return;
  }
  counters.waits.fetch_add(1, std::memory_order_relaxed);
  ChangeOrder order;
  order.offset = offset + written;
  order.length = bytes.size() - written;
  order.bytes = bytes.data() + written;
  order.fua = fua;
  begin_change(order, std::move(done));
}

void VolumeImpl::begin_change(const ChangeOrder& order, Done done) {
  if (absl::Status status = core_.begin_operation(); !status.ok()) {
    done(std::move(status));
    return;
  }
  const auto change = std::make_shared<Change>(shared_from_this(), order, std::move(done));
  core_.options.workers->run([change] { change->run(); });
}

uint64_t VolumeImpl::write_now(uint64_t offset, absl::Span<const std::byte> bytes,
                               absl::Status& why) {
  uint64_t written = 0;
  PageWriter writer(core_, false);
  while (written < bytes.size()) {
    const uint64_t at = offset + written;
    const uint64_t length = length_of_step(at, bytes.size() - written);
    const BlockRef block = core_.cache.find(page::map_block_of(at >> kExtentShift));
    if (!block) break;
    Applied applied{};
    if (length % kPageSize != 0) {
      PageWriter::PartOfPage part;
      part.page = at >> kPageShift;
      part.begin = static_cast<uint32_t>(at % kPageSize);
      part.length = static_cast<uint32_t>(length);
      part.bytes = bytes.data() + written;
      applied = writer.write_part(*block, part, why);
    } else {
      PageRun run;
      run.extent = at >> kExtentShift;
      run.first = static_cast<uint32_t>(at >> kPageShift) % page::kPagesPerExtent;
      run.count = static_cast<uint32_t>(length >> kPageShift);
      run.end = at + length;
      applied = writer.write(*block, run, bytes.data() + written, why);
    }
    if (applied != Applied::kDone) break;
    written += length;
  }
  return written;
}

void VolumeImpl::write_zeroes(uint64_t offset, uint64_t length, ZeroFlags flags, Done done) {
  absl::Status status = core_.check_change(offset, length);
  if (status.ok()) status = core_.usable();
  if (!status.ok()) {
    done(std::move(status));
    return;
  }
  ChangeOrder order;
  order.kind = flags.no_hole ? ChangeOrder::Kind::kFillZero : ChangeOrder::Kind::kZero;
  order.offset = offset;
  order.length = length;
  order.fua = flags.fua;
  order.grows = !flags.keep_size;
  if (core_.is_file && length > 0) {
    if (order.grows) order.length_after = offset + length;
    // What is beyond the end is zero, but for a write that comes meanwhile.
    if (!order.grows || !flags.no_hole) {
      const uint64_t end = core_.length.bytes();
      order.length = std::min(length, end > offset ? end - offset : 0);
    }
  }
  begin_change(order, std::move(done));
}

void VolumeImpl::trim(uint64_t offset, uint64_t length, bool fua, Done done) {
  write_zeroes(offset, length, {.fua = fua, .no_hole = false, .keep_size = true}, std::move(done));
}

void VolumeImpl::flush(Done done) {
  absl::Status status = core_.usable();
  if (status.ok()) status = core_.begin_operation();
  if (!status.ok()) {
    done(std::move(status));
    return;
  }
  flush_operation(std::move(done));
}

void VolumeImpl::flush_operation(Done done) {
  if (!flusher_.add(std::move(done))) return;
  core_.options.workers->run([self = shared_from_this()] { self->flusher_.run(); });
}

void VolumeImpl::map_own(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) {
  if (absl::Status status = core_.check_range(offset, length); !status.ok()) {
    done(std::move(status));
    return;
  }
  map_cut(nullptr, offset, length, max_runs, std::move(done));
}

void VolumeImpl::map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) {
  if (core_.options.base == nullptr) {
    map_own(offset, length, max_runs, std::move(done));
    return;
  }
  map_own(offset, length, max_runs,
          [self = shared_from_this(), offset, max_runs,
           done = std::move(done)](absl::StatusOr<std::vector<Run>> runs) mutable {
            if (!runs.ok()) return done(std::move(runs));
            self->tell_base_holes(*std::move(runs), offset, max_runs, std::move(done));
          });
}

void VolumeImpl::tell_base_holes(std::vector<Run> runs, uint64_t offset, size_t max_runs,
                                 MapDone done) {
  // Runs of the base between the volume's own are many and tell little; then the answer is shorter.
  constexpr size_t kBaseRuns = 4096;
  const Stretch asked = base_stretch(runs, offset, core_.length.base_bytes());
  if (asked.length == 0) return done(std::move(runs));
  core_.options.base->map(asked.offset, asked.length, kBaseRuns,
                          [runs = std::move(runs), offset, asked, max_runs, done = std::move(done)](
                              absl::StatusOr<std::vector<page::MapRun>> base) mutable {
                            if (!base.ok()) return done(std::move(base).status());
                            done(with_base_holes(runs, offset, asked, *base, max_runs));
                          });
}

void VolumeImpl::map_cut(std::shared_ptr<CutState> cut, uint64_t offset, uint64_t length,
                         size_t max_runs, MapDone done) {
  if (cut != nullptr) {
    if (absl::Status status = check_cut_range(*cut, offset, length); !status.ok()) {
      done(std::move(status));
      return;
    }
  }
  if (absl::Status status = core_.begin_operation(); !status.ok()) {
    done(std::move(status));
    return;
  }
  core_.options.workers->run([self = shared_from_this(), cut = std::move(cut), offset, length,
                              max_runs, done = std::move(done)]() mutable {
    absl::StatusOr<std::vector<Run>> runs =
        walk_map(self->core_, cut.get(), offset, length, max_runs);
    self->core_.end_operation();
    done(std::move(runs));
  });
}

absl::Status VolumeImpl::grow(uint64_t size_bytes) {
  BLOBCACHE_RETURN_IF_ERROR(core_.usable());
  if (core_.is_file) return absl::FailedPreconditionError("a file has a length");
  const absl::MutexLock lock(&core_.header_mutex);
  if (size_bytes < core_.header.size_bytes || size_bytes > kMaxSize) {
    return absl::InvalidArgumentError("a volume only grows, and to 1 PiB at most");
  }
  const int data = core_.files.data.get();
  BLOBCACHE_RETURN_IF_ERROR(core_.map.resize(size_bytes));
  BLOBCACHE_RETURN_IF_ERROR(core_.calls.truncate(data, data_file_bytes(size_bytes)));
  BLOBCACHE_RETURN_IF_ERROR(core_.calls.sync_all(data));
  Header header = core_.header;
  header.size_bytes = size_bytes;
  absl::Status status = core_.header_file.write(header);
  if (!status.ok()) {
    core_.fail(status);
    return status;
  }
  core_.header = header;
  core_.length.set({size_bytes, header.base_bytes, false});
  return absl::OkStatus();
}

absl::Status VolumeImpl::begin_file() {
  {
    const absl::MutexLock lock(&core_.header_mutex);
    BLOBCACHE_RETURN_IF_ERROR(core_.header_file.begin(core_.header));
  }
  // Nothing is in the map yet: the states that the journal tells are all that may be doubtful.
  BLOBCACHE_ASSIGN_OR_RETURN(const BlockRef block, core_.cache.get(0));
  block->has_intent = true;
  core_.intent_blocks.fetch_add(1);
  return absl::OkStatus();
}

void VolumeImpl::set_length(uint64_t length_bytes, Done done) {
  absl::Status status = core_.check_change(length_bytes, 0);
  if (!core_.is_file) status = absl::FailedPreconditionError("an image has no length");
  if (status.ok()) status = core_.usable();
  if (status.ok()) status = core_.begin_operation();
  if (!status.ok()) return done(std::move(status));
  if (core_.journal.has_room(Record::Kind::kLength)) {
    const FileLength::Change change = core_.length.set_length(length_bytes, false, status);
    const bool is_done = change == FileLength::Change::kDone ||
                         change == FileLength::Change::kFailed ||
                         (change == FileLength::Change::kCleanNow && cleaner_.find_clean());
    if (is_done) {
      core_.end_operation();
      return done(std::move(status));
    }
  }
  core_.options.workers->run(
      [self = shared_from_this(), length_bytes, done = std::move(done)]() mutable {
        absl::Status changed = self->change_length(length_bytes, false);
        self->core_.end_operation();
        done(std::move(changed));
      });
}

absl::Status VolumeImpl::change_length(uint64_t length_bytes, bool only_grows) {
  for (;;) {
    BLOBCACHE_RETURN_IF_ERROR(core_.failure());
    BLOBCACHE_RETURN_IF_ERROR(checkpointer_.make_room());
    absl::Status why;
    switch (core_.length.set_length(length_bytes, only_grows, why)) {
      case FileLength::Change::kFailed:
        return why;
      case FileLength::Change::kDone:
        break;
      case FileLength::Change::kCleanNow:
        break;
      case FileLength::Change::kCleanFirst:
        BLOBCACHE_RETURN_IF_ERROR(cleaner_.run());
        continue;
    }
    break;
  }
  // The file has its length. What could not be given back is tried again by who makes it longer.
  cleaner_.run().IgnoreError();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<VolumeCut>> VolumeImpl::cut() {
  BLOBCACHE_RETURN_IF_ERROR(core_.usable());
  BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<CutState> state, core_.begin_cut());
  return std::make_shared<VolumeCutImpl>(shared_from_this(), std::move(state));
}

absl::Status VolumeImpl::close() {
  if (!core_.close_for_operations()) return core_.usable();
  // Takes the intents away: a write that is still under way finds none, and then that it is late.
  absl::Status status = checkpointer_.run(Checkpointer::Intents::kClose);
  // One that found its intent still there may have told the journal since the checkpoint began.
  if (status.ok() && !core_.journal.is_empty()) {
    status = checkpointer_.run(Checkpointer::Intents::kClose);
  }
  if (status.ok()) status = flusher_.sync_names();
  core_.charge.end();
  ::flock(core_.files.header.get(), LOCK_UN);
  return status;
}

void VolumeImpl::abandon() {
  if (!core_.close_for_operations()) return;
  core_.charge.end();
  ::flock(core_.files.header.get(), LOCK_UN);
}

VolumeStats VolumeImpl::stats() const {
  VolumeStats stats;
  for (const VolumeCounters& counters : core_.counters) {
    stats.reads += counters.reads.load();
    stats.writes += counters.writes.load();
    stats.bytes_read += counters.bytes_read.load();
    stats.bytes_written += counters.bytes_written.load();
    stats.waits += counters.waits.load();
  }
  stats.data_bytes = core_.data_pages.load() << kPageShift;
  stats.cached_blocks = core_.cache.size();
  stats.intent_blocks = core_.intent_blocks.load();
  stats.flushes = core_.flushes.load();
  stats.syncs = core_.syncs.load();
  stats.checkpoints = core_.checkpoints.load();
  stats.damaged_pages = core_.damaged_pages.load();
  stats.rechecked_pages = core_.rechecked_pages;
  stats.recovered = core_.recovered;
  return stats;
}

}  // namespace blobcache::volume
