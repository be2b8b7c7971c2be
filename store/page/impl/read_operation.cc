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

}  // namespace

ReadOperation::ReadOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object, uint64_t offset,
                             uint64_t length, Object::ReadDone done)
    : core_(core), object_(std::move(object)), done_(std::move(done)) {
  const uint64_t end = offset + length;
  for (uint64_t at = offset; at < end;) {
    const uint64_t index = at >> kExtentShift;
    const uint64_t stop = std::min(end, (index + 1) << kExtentShift);
    parts_.push_back({index, at, stop, pages_touched(index, at, stop - at)});
    at = stop;
  }
}

void ReadOperation::start() {
  core_.counters.add(Counters::kReads);
  remaining_.store(parts_.size(), std::memory_order_relaxed);
  const std::shared_ptr<ReadOperation> self = shared_from_this();  // parts may end it all
  for (size_t part = 0; part < parts_.size(); ++part) begin_part(part);
}

bool ReadOperation::ended() {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

void ReadOperation::begin_part(size_t part) {
  // What is zero needs no frame, so the map comes first. Pages that a source brings are worth more
  // than that.
  const uint64_t index = parts_[part].index;
  if (object_->source() != nullptr || object_->extents().get(index).map_loaded) {
    place_part(part);
    return;
  }
  // A map that cannot be had is the fetch's to tell.
  core_.maps.load(object_, map_block_of(index),
                  [self = shared_from_this(), part](const absl::StatusOr<MapCache::Block>&) {
                    self->place_part(part);
                  });
}

void ReadOperation::place_part(size_t part) {
  if (ended()) {
    part_done(part, absl::OkStatus());
    return;
  }
  Part& here = parts_[part];
  if (object_->extents().get(here.index).known_zero(here.wanted)) {
    here.is_zero = true;
    core_.counters.add(Counters::kZeroPages, count(here.wanted));
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
  // Under the shard's lock a frame that the extent names cannot be in eviction.
  const auto pin_existing = [&] {
    const uint64_t word = extent.frame.load(std::memory_order_relaxed);
    if (word == Extent::kNoFrame || !pool.pin(FrameRef::from_word(word))) return false;
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
      extent.in_memory.store(0, std::memory_order_relaxed);
      extent.frame.store(fresh->to_word(), std::memory_order_release);
      part.frame = fresh->index;
    }
  }
  if (existed) {
    pool.release_pinned(*fresh);
  } else {
    core_.memory.adopt(fresh->index, *object_, part.index);
  }
  return true;
}

bool ReadOperation::join(size_t part_number) {
  const Part& part = parts_[part_number];
  const uint32_t frame = part.frame;
  const ExtentId id{object_->id(), part.index};
  Extent& extent = object_->extents().get(part.index);
  FlightTable::Shard& shard = core_.flights.shard(id);
  PageMask missing = 0;
  PageMask fresh = 0;
  while (true) {
    {
      absl::MutexLock lock(&shard.mutex);
      missing = part.wanted & ~extent.in_memory.load(std::memory_order_relaxed);
      fresh = missing & ~extent.in_flight;
      if (core_.memory.pool().charge(frame, fresh)) {
        extent.in_flight |= fresh;
        // The fetch's pin is taken here: once the waiter is in, a failing page may end this read
        // and its pin before the fetch has begun.
        if (fresh != 0) core_.memory.pool().pin_again(frame);
        if (missing != 0) {
          shard.flights[id].waiters.push_back({shared_from_this(), part_number, missing});
        }
        break;
      }
    }
    if (!core_.memory.make_room(count(fresh))) return false;
  }
  core_.memory.use(frame);
  core_.counters.add(Counters::kMemoryHitPages, count(part.wanted & ~missing));
  core_.counters.add(Counters::kSharedFlightPages, count(missing & ~fresh));
  if (missing == 0) {
    part_done(part_number, absl::OkStatus());
  } else if (fresh != 0) {
    Fetch::start(core_, object_, id.index, frame, fresh);
  }
  return true;
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
    PinnedRangeBuilder builder(pool, range);
    for (const Part& part : parts_) {
      if (part.is_zero) {
        builder.add_zeros(part.end - part.begin);
      } else {
        builder.add(part.frame, part.begin & (kExtentSize - 1), part.end - part.begin);
      }
    }
  } else {
    for (const Part& part : parts_) {
      if (part.frame != kNoFrame) pool.unpin(part.frame);
    }
  }
  core_.admission.leave(extents());
  if (!done) return;
  if (status.ok()) {
    done(std::move(range));
  } else {
    core_.counters.add(Counters::kReadErrors);
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
