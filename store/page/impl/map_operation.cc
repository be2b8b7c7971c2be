#include "store/page/impl/map_operation.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/status/statusor.h"
#include "store/page/impl/extent_table.h"
#include "store/page/impl/map_cache.h"
#include "store/page/impl/map_loader.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/store_core.h"
#include "store/page/page_map.h"

namespace blobcache::page {
namespace {

/// Where an extent's pages are, a mask a place; what is in none of them is elsewhere.
struct Places {
  PageMask zero = 0;
  PageMask memory = 0;
  PageMask disk = 0;
};

Places places_of(const Extent* extent) {
  if (extent == nullptr) return {};
  Places places;
  places.zero = extent->zero.load(std::memory_order_relaxed);
  places.memory = extent->in_memory.load(std::memory_order_relaxed) & ~places.zero;
  places.disk = extent->on_disk.load(std::memory_order_relaxed) & ~(places.memory | places.zero);
  return places;
}

/// How many pages from `first` on are in the mask, or not in it, as `first` is.
uint32_t stretch(PageMask mask, uint32_t first) {
  const PageMask rest = mask >> first;
  return static_cast<uint32_t>((rest & 1) != 0 ? std::countr_one(rest) : std::countr_zero(rest));
}

}  // namespace

MapOperation::MapOperation(StoreCore& core, std::shared_ptr<ObjectImpl> object, uint64_t offset,
                           uint64_t length, size_t max_runs, Object::MapDone done)
    : core_(core),
      object_(std::move(object)),
      end_(offset + length),
      max_runs_(std::max<size_t>(max_runs, 1)),
      elsewhere_(object_->source() == nullptr ? Place::kLost : Place::kRemote),
      at_(offset),
      batch_end_(offset),
      done_(std::move(done)) {}

void MapOperation::go_on() {
  while (!ended() && load_batch() && batch_known()) {
  }
}

bool MapOperation::load_batch() {
  const uint64_t first = map_block_of(at_ >> kExtentShift);
  const uint64_t last = std::min(map_block_of((end_ - 1) >> kExtentShift), first + kBatch - 1);
  batch_end_ = std::min(end_, ((last + 1) * kExtentsPerMapBlock) << kExtentShift);
  remaining_.store(last - first + 2, std::memory_order_relaxed);
  const std::shared_ptr<MapOperation> self = shared_from_this();
  for (uint64_t block = first; block <= last; ++block) {
    const Extent* extent = object_->extents().find(block * kExtentsPerMapBlock);
    if (extent != nullptr && extent->map_loaded.load(std::memory_order_acquire)) {
      remaining_.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    core_.maps.load(object_, block, [self](const absl::StatusOr<MapCache::Block>& result) {
      self->block_known(result.status());
    });
  }
  return remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

void MapOperation::block_known(const absl::Status& status) {
  // What is lost is on no disk, and what a source has can be had all the same.
  const bool an_answer = absl::IsDataLoss(status) || absl::IsNotFound(status);
  if (!status.ok() && !an_answer && elsewhere_ == Place::kLost) {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (batch_known()) go_on();
}

bool MapOperation::batch_known() {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = status_;
  }
  if (!status.ok()) {
    answer(std::move(status));
    return false;
  }
  if (tell_batch()) return true;
  answer(std::move(runs_));
  return false;
}

bool MapOperation::tell_batch() {
  for (uint64_t index = at_ >> kExtentShift; at_ < batch_end_; ++index) {
    if (!tell_extent(index)) return false;
  }
  return at_ < end_;
}

bool MapOperation::tell_extent(uint64_t index) {
  const Places places = places_of(object_->extents().find(index));
  const uint64_t extent_begin = index << kExtentShift;
  const uint64_t stop = std::min(end_, extent_begin + kExtentSize);
  while (at_ < stop) {
    const auto page = static_cast<uint32_t>((at_ - extent_begin) >> kPageShift);
    // The shortest stretch ends where any of the words changes.
    const uint32_t pages = std::min({stretch(places.zero, page), stretch(places.memory, page),
                                     stretch(places.disk, page), kPagesPerExtent - page});
    const PageMask bit = page_mask(page, 1);
    Place place = elsewhere_;
    if ((places.zero & bit) != 0) {
      place = Place::kZero;
    } else if ((places.memory & bit) != 0) {
      place = Place::kMemory;
    } else if ((places.disk & bit) != 0) {
      place = Place::kDisk;
    }
    const uint64_t run_end = std::min(stop, extent_begin + (uint64_t{page + pages} << kPageShift));
    if (!add(run_end - at_, place)) return false;
    at_ = run_end;
  }
  return true;
}

bool MapOperation::add(uint64_t length, Place place) {
  if (!runs_.empty() && runs_.back().place == place) {
    runs_.back().length += length;
    return true;
  }
  if (runs_.size() == max_runs_) return false;
  runs_.push_back({length, place});
  return true;
}

bool MapOperation::ended() {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

void MapOperation::answer(absl::StatusOr<std::vector<MapRun>> result) {
  Object::MapDone done;
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    ended_ = true;
    done = std::move(done_);
  }
  done(std::move(result));
}

void MapOperation::cancel() { answer(absl::CancelledError("the look at the page map was ended")); }

}  // namespace blobcache::page
