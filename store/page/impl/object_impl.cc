#include "store/page/impl/object_impl.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "store/page/allow_blocking.h"
#include "store/page/impl/file_verifier.h"
#include "store/page/impl/map_loader.h"
#include "store/page/impl/map_operation.h"
#include "store/page/impl/pinned_range_builder.h"
#include "store/page/impl/read_operation.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {

ObjectImpl::ObjectImpl(uint64_t id, ObjectSpec spec, StoreCore& core)
    : presence_(core.live_objects),
      id_(id),
      spec_(std::move(spec)),
      core_(core),
      extents_(page::extent_count(spec_.size_bytes), core.extent_bytes),
      file_(core.disk, spec_),
      source_(spec_.source),
      inline_map_(spec_.inline_map) {}

ObjectImpl::~ObjectImpl() { core_.memory.drop(*this, /*dying=*/true); }

std::optional<uint32_t> ObjectImpl::pin_hit(const Extent& extent, PageMask wanted, uint32_t shard) {
  const uint64_t word = extent.frame.load(std::memory_order_acquire);
  if (word == Extent::kNoFrame) return std::nullopt;
  const FrameRef frame = FrameRef::from_word(word);
  FramePool& pool = core_.memory.pool();
  if (!pool.pin(frame, shard)) return std::nullopt;
  // Only now is the frame ours; the words read before the pin may be of an earlier use.
  if (extent.frame.load(std::memory_order_acquire) == word &&
      (wanted & ~extent.in_memory.load(std::memory_order_acquire)) == 0) {
    core_.memory.use(frame.index);
    return frame.index;
  }
  pool.unpin({frame.index, shard});
  return std::nullopt;
}

ObjectReadahead& ObjectImpl::readahead(uint64_t max_window) {
  absl::MutexLock lock(&mutex_);
  if (readahead_ == nullptr) {
    readahead_ = std::make_unique<ObjectReadahead>(size_bytes(), max_window);
  }
  return *readahead_;
}

bool ObjectImpl::try_read(uint64_t offset, uint64_t length, PinnedRange& range) {
  if (!in_range(offset, length)) return false;
  const uint32_t shard = core_.memory.pool().this_shard();
  PinnedRangeBuilder builder(core_.memory.pool(), shard, range);
  const uint64_t end = offset + length;
  uint64_t pages = 0;
  uint64_t zeros = 0;
  PageMask brought = 0;  // of what was read ahead, in any extent
  for (uint64_t at = offset; at < end;) {
    const uint64_t index = at >> kExtentShift;
    const uint64_t stop = std::min(end, (index + 1) << kExtentShift);
    const PageMask wanted = pages_touched(index, at, stop - at);
    Extent* extent = extents_.find(index);
    const auto count = static_cast<uint64_t>(std::popcount(wanted));
    if (extent == nullptr) {
      range.release();
      return false;
    }
    if (const std::optional<uint32_t> frame = pin_hit(*extent, wanted, shard)) {
      builder.add(*frame, at & (kExtentSize - 1), stop - at);
      pages += count;
      if (const PageMask unread = core_.ledger.read(comes_from(), *extent, wanted); unread != 0) {
        brought |= unread;
        if (extent->unread == 0) core_.memory.promote(*frame);
      }
    } else if (extent->known_zero(wanted)) {
      builder.add_zeros(stop - at);
      zeros += count;
    } else {
      range.release();
      return false;
    }
    at = stop;
  }
  core_.counters.add(Counters::kReads);
  core_.counters.add(Counters::kMemoryHitPages, pages);
  if (zeros != 0) core_.counters.add(Counters::kZeroPages, zeros);
  if (brought != 0) core_.prefetcher.on_read(core_, *this, {offset, length});
  return true;
}

PendingRead ObjectImpl::read(uint64_t offset, uint64_t length, ReadDone done) {
  if (!in_range(offset, length)) {
    done(absl::OutOfRangeError(fmt::format(
        "a read of {} bytes at {} does not lie in an object of {} bytes, or is over {} bytes",
        length, offset, size_bytes(), kMaxRead)));
    return {};
  }
  PinnedRange range;
  if (try_read(offset, length, range)) {
    done(std::move(range));
    return {};
  }
  const bool is_watched = core_.prefetcher.watches(*this);
  // What follows is behind this read on every way, unless this thread is about to wait for it.
  const bool first = is_watched && AllowBlocking::allowed();
  const auto read_ahead = [&] {
    core_.prefetcher.on_read(core_, *this, {.offset = offset, .length = length, .waited = true});
  };
  if (first) read_ahead();
  auto operation = std::make_shared<ReadOperation>(
      core_, shared_from_this(), ReadOperation::Order{offset, length}, std::move(done));
  operation->begin();
  if (is_watched && !first) read_ahead();
  return PendingRead(operation);
}

PendingRead ObjectImpl::map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) {
  if (length == 0 || offset >= size_bytes() || length > size_bytes() - offset) {
    done(absl::OutOfRangeError(fmt::format("{} bytes at {} do not lie in an object of {} bytes",
                                           length, offset, size_bytes())));
    return {};
  }
  auto operation = std::make_shared<MapOperation>(
      core_, shared_from_this(), offset, std::min(length, kMaxMapped), max_runs, std::move(done));
  operation->begin();
  return PendingRead(operation);
}

absl::Status ObjectImpl::load_map() {
  for (uint64_t block = 0; block < map_block_count(size_bytes()); ++block) {
    absl::Notification loaded;
    absl::Status status;
    core_.maps.load(shared_from_this(), block, [&](const absl::StatusOr<MapCache::Block>& result) {
      status = result.status();
      loaded.Notify();
    });
    loaded.WaitForNotification();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Residency> ObjectImpl::residency() {
  Residency residency;
  residency.pages = page_count(size_bytes());
  // What is lost is not on disk; that is an answer, not an error.
  absl::Status disk = file_.open().status();
  if (disk.ok()) disk = load_map();
  if (!disk.ok() && !absl::IsDataLoss(disk) && !absl::IsNotFound(disk)) return disk;
  extents_.for_each_touched([&](uint64_t, const Extent& extent) {
    const PageMask zero = extent.zero.load();
    const PageMask on_disk = disk.ok() ? extent.on_disk.load() : 0;
    residency.memory_pages += static_cast<uint64_t>(std::popcount(extent.in_memory.load()));
    residency.disk_pages += static_cast<uint64_t>(std::popcount(on_disk | zero));
    residency.zero_pages += static_cast<uint64_t>(std::popcount(zero));
  });
  return residency;
}

/// While it exists nothing is taken out of the object's file.
class ObjectImpl::Lease {
 public:
  explicit Lease(std::shared_ptr<ObjectImpl> object) : object_(std::move(object)) {
    object_->lending_.borrow();
  }
  ~Lease() {
    object_->lending_.give_back();
    if (was_lent_ && object_->in_cache()) object_->core_.cache.use_all(*object_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  void set_lent() { was_lent_ = true; }

 private:
  const std::shared_ptr<ObjectImpl> object_;
  bool was_lent_ = false;
};

std::shared_ptr<const void> ObjectImpl::keep_lent() {
  const auto lease = std::make_shared<Lease>(shared_from_this());
  lease->set_lent();
  return lease;
}

absl::StatusOr<LentFile> ObjectImpl::lend_file() {
  const auto lease = std::make_shared<Lease>(shared_from_this());
  const Lending::Answer answer = lending_.look(extents_, size_bytes());
  if (answer == Lending::Answer::kInMemory) core_.verifier.request(shared_from_this());
  if (answer != Lending::Answer::kWhole) {
    return absl::FailedPreconditionError("not all of it is on disk and verified");
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const OpenFilesRef files, file_.open());
  struct stat info{};
  if (::fstat(files->data.get(), &info) != 0) return base::errno_error(errno, "fstat");
  const bool is_as_it_was = in_cache() ? lending_.is_as_first_lent(written_ns(info))
                                       : written_ns(info) == lending_.written_ns();
  if (!is_as_it_was || static_cast<uint64_t>(info.st_size) != size_bytes()) {
    return absl::FailedPreconditionError("somebody else wrote to its file");
  }
  base::UniqueFd fd(::fcntl(files->data.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd.valid()) return base::errno_error(errno, "F_DUPFD_CLOEXEC");
  lease->set_lent();
  return LentFile{std::move(fd), lease};
}

}  // namespace blobcache::page
