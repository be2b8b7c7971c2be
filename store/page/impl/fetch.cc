#include "store/page/impl/fetch.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/read_operation.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
Fetch::Fetch(StoreCore& core, std::shared_ptr<ObjectImpl> object, const Order& order, Pin pin)
    : core_(core),
      object_(std::move(object)),
      id_{object_->id(), order.index},
      pin_(pin),
      ahead_(order.ahead),
      unsettled_(order.pages) {}

void Fetch::start(StoreCore& core, std::shared_ptr<ObjectImpl> object, const Order& order,
                  Pin pin) {
  const std::shared_ptr<Fetch> fetch(
      new Fetch(core, std::move(object), order, pin));  // NOLINT: private constructor
  core.maps.load(fetch->object_, map_block_of(order.index),
                 [fetch, pages = order.pages](absl::StatusOr<MapCache::Block> block) {
                   if (block.ok()) {
                     fetch->map_ = *std::move(block);
                     fetch->with_map(pages);
                   } else {
                     fetch->from_source(pages, block.status());
                   }
                 });
}

std::byte* Fetch::memory(PageMask run) const {
  return core_.memory.pool().data(pin_.frame) + (uint64_t{first_page(run)} << kPageShift);
}

uint64_t Fetch::offset(PageMask run) const {
  return (id_.index << kExtentShift) + (uint64_t{first_page(run)} << kPageShift);
}

absl::Status Fetch::lost(PageMask pages, std::string_view why) const {
  return base::at_offset(base::error(absl::StatusCode::kDataLoss, why), offset(pages));
}

uint64_t Fetch::object_bytes(PageMask run) const {
  return object_->bytes_of_pages(offset(run), uint64_t{page_total(run)} << kPageShift);
}

void Fetch::clear_tail(PageMask run) const {
  const uint64_t whole = uint64_t{page_total(run)} << kPageShift;
  const uint64_t real = object_bytes(run);
  std::memset(memory(run) + real, 0, whole - real);
}

PageMask Fetch::known_checksums() const {
  return map_ == nullptr ? 0 : map_->on_disk.at(id_.index % kExtentsPerMapBlock);
}

void Fetch::with_map(PageMask pages) {
  const Extent& extent = object_->extents().get(id_.index);
  const PageMask zeros = pages & extent.zero.load(std::memory_order_relaxed);
  // The extent may know of pages that came to the disk since this block was brought; without their
  // checksums they are no use.
  // What was dropped is tried again where nobody else has it: the disk may have been mended.
  PageMask there = extent.on_disk.load(std::memory_order_relaxed);
  if (object_->source() == nullptr) there = ~PageMask{0};
  const PageMask disk = pages & ~zeros & there & known_checksums();
  const PageMask elsewhere = pages & ~zeros & ~disk;
  if (zeros != 0) zero(zeros);
  for_each_run(disk, [&](PageMask run) { from_disk(run, /*again=*/false); });
  if (elsewhere != 0) {
    from_source(elsewhere,
                lost(elsewhere,
                     fmt::format("object {}: {} pages at {} are lost or damaged on "
                                 "disk, and there is nowhere else to have them from",
                                 object_->key().hex(), page_total(elsewhere), offset(elsewhere))));
  }
}

void Fetch::zero(PageMask pages) {
  core_.counters.add(Counters::kZeroPages, page_total(pages));
  for_each_run(pages, [this](PageMask run) {
    std::memset(memory(run), 0, uint64_t{page_total(run)} << kPageShift);
  });
  settle(pages, absl::OkStatus());
}

void Fetch::from_disk(PageMask run, bool again) {
  if (object_->source() != nullptr && !core_.disk.health().may_read()) {
    from_source(run, absl::UnavailableError("the disk tier is out of use"));
    return;
  }
  const absl::StatusOr<OpenFilesRef> files = object_->file().open();
  if (!files.ok()) {
    from_source(run, files.status());
    return;
  }
  const uint64_t bytes = uint64_t{page_total(run)} << kPageShift;
  core_.counters.add(Counters::kDiskReadBytes, bytes);
  core_.disk.ring().read((*files)->data.get(), {memory(run), bytes}, offset(run), object_bytes(run),
                         [self = shared_from_this(), files = *files, run, again](int result) {
                           self->disk_done(run, again, *files, result);
                         });
}

PageMask Fetch::verify(PageMask run) const {
  const uint64_t local = id_.index % kExtentsPerMapBlock;
  const std::byte* extent_memory = core_.memory.pool().data(pin_.frame);
  PageMask good = 0;
  for (PageMask left = run; left != 0; left &= left - 1) {
    const uint32_t page = first_page(left);
    const uint32_t crc = crc32c({extent_memory + (uint64_t{page} << kPageShift), kPageSize});
    const uint32_t expected = map_->checksum.at(local * kPagesPerExtent + page);
    const uint64_t number = id_.index * kPagesPerExtent + page;
    if (page_checksum(crc, object_->incarnation(), number) == expected) {
      good |= page_mask(page, 1);
    }
  }
  return good;
}

void Fetch::disk_failed(PageMask run, bool again, int error) {
  if (page_total(run) > 1 && object_->source() == nullptr) {
    // One bad place is no reason to lose its neighbours, which nobody else has.
    for (PageMask left = run; left != 0; left &= left - 1) {
      from_disk(page_mask(first_page(left), 1), again);
    }
    return;
  }
  core_.disk.health().judge(DiskStep::Kind::kRead, error);
  const absl::Status why = base::errno_error(
      -error, fmt::format("reading object {} at {}", object_->key().hex(), offset(run)));
  core_.disk.log_failure(fmt::format("a disk read failed: {}", base::message(why)));
  // A file that was cut short has lost them.
  if (error == -ENODATA && object_->in_cache()) (void)drop(run);
  from_source(run, lost(run, base::message(why)));
}

void Fetch::disk_done(PageMask run, bool again, const OpenFiles& files, int result) {
  if (result != 0) {
    disk_failed(run, again, result);
    return;
  }
  core_.disk.health().judge(DiskStep::Kind::kRead, result);
  clear_tail(run);
  const PageMask good = verify(run);
  if (good != 0) {
    core_.counters.add(Counters::kDiskHitPages, page_total(good));
    if (object_->in_cache()) core_.cache.use(*object_, id_.index);
    if (object_->source() == nullptr) restore(good);
    // Nobody clears them: they are in flight still.
    object_->lending().note_verified(object_->extents().get(id_.index), good, files.written_ns);
    settle(good, absl::OkStatus());
  }
  const PageMask bad = run & ~good;
  if (bad == 0) return;
  if (!again) {
    // What was garbled on its way comes right the second time; what the disk holds does not.
    for_each_run(bad, [&](PageMask part) { from_disk(part, /*again=*/true); });
    return;
  }
  // Once, however often somebody asks for them.
  if (const PageMask dropped = drop(bad); dropped != 0) {
    core_.counters.add(Counters::kChecksumErrors, page_total(dropped));
    spdlog::error("object {}: {} pages at {} do not match their checksum; dropped",
                  object_->key().hex(), page_total(dropped), offset(dropped));
  }
  from_source(
      bad, lost(bad, fmt::format(
                         "object {}: the page at {} is damaged on disk, and there is nowhere else "
                         "to have it from",
                         object_->key().hex(), offset(bad))));
}

PageMask Fetch::drop(PageMask pages) {
  absl::MutexLock lock(&core_.flights.shard(id_).mutex);
  Extent& extent = object_->extents().get(id_.index);
  object_->lending().forget(extent, pages);
  return pages & extent.on_disk.fetch_and(~pages, std::memory_order_relaxed);
}

void Fetch::restore(PageMask pages) {
  absl::MutexLock lock(&core_.flights.shard(id_).mutex);
  object_->extents().get(id_.index).on_disk.fetch_or(pages, std::memory_order_relaxed);
}

void Fetch::from_source(PageMask pages, const absl::Status& why) {
  const std::shared_ptr<Source> source = object_->source();
  if (source == nullptr) {
    settle(pages, why);
    return;
  }
  for_each_run(pages, [&](PageMask run) {
    auto done = [self = shared_from_this(), run](const absl::Status& status) {
      self->source_done(run, status);
    };
    const absl::Span<std::byte> into(memory(run), object_bytes(run));
    std::shared_ptr<Source::Fetch> fetch =
        ahead_ ? source->fetch_ahead(offset(run), into, std::move(done))
               : source->fetch(offset(run), into, std::move(done));
    if (fetch != nullptr) register_source_fetch(run, std::move(fetch));
  });
}

void Fetch::source_done(PageMask run, const absl::Status& status) {
  if (!status.ok()) {
    settle(run, status);
    return;
  }
  clear_tail(run);
  core_.counters.add(Counters::kRemoteFetchedBytes, object_bytes(run));
  const PageMask known = run & known_checksums();
  const PageMask wrong = known & ~verify(known);
  const PageMask good = run & ~wrong;
  if (good != 0) {
    core_.counters.add(Counters::kRemoteHitPages, page_total(good));
    if (object_->in_cache()) core_.cache.fill(object_, id_.index, pin_, good);
    settle(good, absl::OkStatus());
  }
  if (wrong == 0) return;
  core_.counters.add(Counters::kSourceChecksumErrors, page_total(wrong));
  const std::string what =
      fmt::format("object {}: {} pages at {} that its source brought do not match their checksum",
                  object_->key().hex(), page_total(wrong), offset(wrong));
  spdlog::error("{}; not served", what);
  settle(wrong, absl::DataLossError(what));
}

void Fetch::register_source_fetch(PageMask run, std::shared_ptr<Source::Fetch> fetch) {
  bool wanted = false;
  bool urgent = false;
  {
    FlightTable::Shard& shard = core_.flights.shard(id_);
    absl::MutexLock lock(&shard.mutex);
    // The source may have answered already, or the last waiter left before there was something to
    // cancel.
    if ((unsettled_.load(std::memory_order_relaxed) & run) == 0) return;
    Flight& flight = shard.flights[id_];
    wanted = (flight.waited_for() & run) != 0;
    urgent = ahead_ && std::ranges::any_of(flight.waiters, [run](const Flight::Waiter& waiter) {
               return !waiter.operation->is_ahead() && (waiter.waiting & run) != 0;
             });
    flight.source_fetches.push_back({run, fetch, /*cancelled=*/!wanted});
  }
  if (!wanted) {
    fetch->cancel();
  } else if (urgent) {
    fetch->hasten();
  }
}

void Fetch::settle(PageMask pages, const absl::Status& status) {
  Extent& extent = object_->extents().get(id_.index);
  FlightTable::Shard& shard = core_.flights.shard(id_);
  std::vector<Flight::Waiter> finished;
  PageMask again = 0;
  {
    absl::MutexLock lock(&shard.mutex);
    Flight& flight = shard.flights[id_];
    bool cancelled = false;
    std::erase_if(flight.source_fetches, [&](const Flight::SourceFetch& fetch) {
      if ((fetch.pages & pages) == 0) return false;
      cancelled |= fetch.cancelled;
      return true;
    });
    if (!status.ok() && cancelled) again = flight.waited_for() & pages;
    const PageMask over = pages & ~again;
    if (status.ok()) extent.in_memory.fetch_or(over, std::memory_order_release);
    extent.in_flight &= ~over;
    if (!status.ok()) core_.ledger.fail(object_->comes_from(), extent, over);
    // The waiters have pins of their own.
    if (unsettled_.fetch_and(~over, std::memory_order_acq_rel) == over) {
      core_.memory.pool().unpin(pin_);
    }
    std::erase_if(flight.waiters, [&](Flight::Waiter& waiter) {
      if ((waiter.waiting & over) == 0) return false;
      waiter.waiting &= ~over;
      if (status.ok() && waiter.waiting != 0) return false;
      finished.push_back(std::move(waiter));
      return true;
    });
    if (flight.waiters.empty() && extent.in_flight == 0) shard.flights.erase(id_);
  }
  for (const Flight::Waiter& waiter : finished) {
    waiter.operation->part_done(waiter.part, status);
  }
  if (again != 0) from_source(again, status);
}

}  // namespace blobcache::page
