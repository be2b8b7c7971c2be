#include "store/page/impl/read_operation.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "store/page/impl/fetch.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/pinned_range_builder.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

uint64_t count(PageMask pages) { return static_cast<uint64_t>(std::popcount(pages)); }

Admission::Lane lane_of(bool has_source, bool ahead) {
  if (ahead) return has_source ? Admission::Lane::kSourceAhead : Admission::Lane::kDiskAhead;
  return has_source ? Admission::Lane::kSource : Admission::Lane::kDisk;
}

}  // namespace

ReadOperation::ReadOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object,
                             const Order& order, Object::ReadDone done)
    : core_(core),
      object_(std::move(object)),
      shard_(core.memory.pool().this_shard()),
      length_(order.length),
      ahead_(order.ahead),
      lane_(lane_of(object_->source() != nullptr, ahead_)),
      done_(std::move(done)) {
  const uint64_t end = order.offset + order.length;
  for (uint64_t at = order.offset; at < end;) {
    const uint64_t index = at >> kExtentShift;
    const uint64_t stop = std::min(end, (index + 1) << kExtentShift);
    parts_.push_back({index, at, stop, pages_touched(index, at, stop - at)});
    at = stop;
  }
}

void ReadOperation::begin() {
  core_.admission.expect();
  const std::shared_ptr<ReadOperation> self = shared_from_this();  // the maps may end it all
  // What is zero needs no frame, so the map comes first; and before the places, since a damaged one
  // may take minutes to be made again. Pages that a source brings are worth more than that.
  remaining_.store(parts_.size() + 1, std::memory_order_relaxed);
  for (const Part& part : parts_) {
    if (object_->source() != nullptr || object_->extents().get(part.index).map_loaded) {
      map_known();
      continue;
    }
    // A map that cannot be had is the fetch's to tell.
    core_.maps.load(object_, map_block_of(part.index),
                    [self](const absl::StatusOr<MapCache::Block>&) { self->map_known(); });
  }
  map_known();
}

void ReadOperation::map_known() {
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  core_.admission.enter(lane_, parts_.size(), [self = shared_from_this()] { self->start(); });
}

void ReadOperation::start() {
  if (!ahead_) core_.counters.add(Counters::kReads);
  remaining_.store(parts_.size(), std::memory_order_relaxed);
  const std::shared_ptr<ReadOperation> self = shared_from_this();  // parts may end it all
  for (size_t part = 0; part < parts_.size(); ++part) place_part(part);
  if (ahead_) core_.ledger.begin(object_->comes_from(), length_);
}

bool ReadOperation::ended() {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

void ReadOperation::place_part(size_t part) {
  if (ended()) {
    part_done(part, absl::OkStatus());
    return;
  }
  Part& here = parts_[part];
  if (object_->extents().get(here.index).known_zero(here.wanted)) {
    // An earlier try may have had a frame.
    if (here.frame != kNoFrame) core_.memory.pool().unpin({here.frame, shard_});
    here.frame = kNoFrame;
    here.is_zero = true;
    if (!ahead_) core_.counters.add(Counters::kZeroPages, count(here.wanted));
    part_done(part, absl::OkStatus());
    return;
  }
  if (attach_frame(here) && join(part)) return;
  // Every frame is pinned. Pins go within their holders' deadlines; try again when some have.
  core_.memory.retry_later([self = shared_from_this(), part] { self->place_part(part); });
}

bool ReadOperation::attach_frame(Part& part) {
  if (part.frame != kNoFrame) return true;
  FramePool& pool = core_.memory.pool();
  Extent& extent = object_->extents().get(part.index);
  FlightTable::Shard& shard = core_.flights.shard({object_->id(), part.index});
  // Under the extent's lock, which an evictor takes too, a frame that the extent names is open: a
  // hit that failed only because somebody tried to evict finds it here.
  const auto pin_existing = [&] {
    const uint64_t word = extent.frame.load(std::memory_order_relaxed);
    if (word == Extent::kNoFrame || !pool.pin(FrameRef::from_word(word), shard_)) return false;
    part.frame = FrameRef::from_word(word).index;
    return true;
  };
  {
    absl::MutexLock lock(&shard.mutex);
    if (pin_existing()) return true;
  }
  const std::optional<FrameRef> fresh = core_.memory.acquire(part.wanted);
  if (!fresh) return false;
  bool existed = false;
  {
    absl::MutexLock lock(&shard.mutex);
    existed = pin_existing();
    if (!existed) {
      pool.open(*fresh, shard_);
      extent.in_memory.store(0, std::memory_order_relaxed);
      extent.frame.store(fresh->to_word(), std::memory_order_release);
      part.frame = fresh->index;
    }
  }
  if (existed) {
    pool.release(fresh->index);
  } else {
    core_.memory.adopt(fresh->index, *object_, part.index, ahead_);
  }
  return true;
}

bool ReadOperation::join(size_t part_number) {
  const Part& part = parts_[part_number];
  const Pin pin{part.frame, shard_};
  const ExtentId id{object_->id(), part.index};
  Extent& extent = object_->extents().get(part.index);
  FlightTable::Shard& shard = core_.flights.shard(id);
  PageMask missing = 0;
  PageMask fresh = 0;
  std::vector<std::shared_ptr<Source::Fetch>> joined;
  while (true) {
    {
      absl::MutexLock lock(&shard.mutex);
      missing = part.wanted & ~extent.in_memory.load(std::memory_order_relaxed);
      fresh = missing & ~extent.in_flight;
      if (core_.memory.charge(pin.frame, fresh)) {
        extent.in_flight |= fresh;
        if (ahead_) core_.ledger.bring(object_->comes_from(), extent, fresh);
        // The fetch's pin is taken here: once the waiter is in, a failing page may end this read
        // and its pin before the fetch has begun.
        if (fresh != 0) core_.memory.pool().pin_again(pin);
        if (missing != 0) {
          Flight& flight = shard.flights[id];
          flight.waiters.push_back({shared_from_this(), part_number, missing});
          if (!ahead_) joined = flight.fetches_of(missing);
        }
        break;
      }
    }
    if (!core_.memory.make_room(count(fresh))) return false;
  }
  if (!ahead_) count_pages(part, extent, missing, fresh);
  // Perhaps they were ahead of their readers.
  for (const auto& fetch : joined) fetch->hasten();
  if (missing == 0) {
    part_done(part_number, absl::OkStatus());
  } else if (fresh != 0) {
    Fetch::start(core_, object_, {id.index, fresh, ahead_}, pin);
  }
  return true;
}

void ReadOperation::count_pages(const Part& part, Extent& extent, PageMask missing,
                                PageMask fresh) {
  core_.memory.use(part.frame);
  core_.counters.add(Counters::kMemoryHitPages, count(part.wanted & ~missing));
  core_.counters.add(Counters::kSharedFlightPages, count(missing & ~fresh));
  const PageMask brought = core_.ledger.read(object_->comes_from(), extent, part.wanted);
  if (brought != 0 && extent.unread == 0) core_.memory.promote(part.frame);
  const PageMask late = missing & ~fresh & brought;
  if (late != 0) core_.counters.add(Counters::kPrefetchLatePages, count(late));
}

void ReadOperation::part_done(size_t /*part*/, const absl::Status& status) {
  if (!status.ok()) {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish();
}

void ReadOperation::finish() {
  Object::ReadDone done;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    if (!ended_) done = std::move(done_);
    ended_ = true;
    status = status_;
  }
  FramePool& pool = core_.memory.pool();
  PinnedRange range;
  if (done && status.ok()) {
    PinnedRangeBuilder builder(pool, shard_, range);
    for (const Part& part : parts_) {
      if (part.is_zero) {
        builder.add_zeros(part.end - part.begin);
      } else {
        builder.add(part.frame, part.begin & (kExtentSize - 1), part.end - part.begin);
      }
    }
  } else {
    for (const Part& part : parts_) {
      if (part.frame != kNoFrame) pool.unpin({part.frame, shard_});
    }
  }
  core_.admission.leave(lane_, parts_.size());
  if (!done) return;
  if (status.ok()) {
    done(std::move(range));
  } else {
    if (!ahead_) core_.counters.add(Counters::kReadErrors);
    done(std::move(status));
  }
}

void ReadOperation::cancel() {
  Object::ReadDone done;
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    ended_ = true;
    done = std::move(done_);
  }
  leave_flights();
  done(absl::CancelledError("the read was cancelled"));
}

void ReadOperation::leave_flights() {
  std::vector<size_t> left;
  std::vector<std::shared_ptr<Source::Fetch>> unwanted;
  for (const Part& part : parts_) {
    const ExtentId id{object_->id(), part.index};
    FlightTable::Shard& shard = core_.flights.shard(id);
    absl::MutexLock lock(&shard.mutex);
    const auto at = shard.flights.find(id);
    if (at == shard.flights.end()) continue;
    Flight& flight = at->second;
    std::erase_if(flight.waiters, [&](const Flight::Waiter& waiter) {
      const bool ours = waiter.operation.get() == this;
      if (ours) left.push_back(waiter.part);
      return ours;
    });
    const PageMask still_wanted = flight.waited_for();
    for (Flight::SourceFetch& fetch : flight.source_fetches) {
      if (fetch.cancelled || (fetch.pages & still_wanted) != 0) continue;
      // Who joins from here on gets a fetch of his own, if this one ends as cancelled.
      fetch.cancelled = true;
      unwanted.push_back(fetch.fetch);
    }
  }
  for (const auto& fetch : unwanted) fetch->cancel();
  for (const size_t part : left) part_done(part, absl::OkStatus());
}

}  // namespace blobcache::page
