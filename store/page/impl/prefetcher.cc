#include "store/page/impl/prefetcher.h"

#include <algorithm>
#include <utility>

#include "store/page/allow_blocking.h"
#include "store/page/geometry.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/read_operation.h"
#include "store/page/impl/store_core.h"
#include "store/page/monotonic_clock.h"
#include "store/page/no_readahead.h"
#include "store/page/thread_ring.h"

namespace blobcache::page {

Prefetcher::Prefetcher(const PrefetchOptions& options, uint64_t memory_bytes,
                       PrefetchLedger& ledger)
    : enabled_(options.enabled),
      max_window_(std::max(options.max_window_bytes, Readahead::kFirstWindow)),
      budget_(std::min(options.budget_bytes, memory_bytes / 4)),
      ledger_(ledger) {}

bool Prefetcher::watches(const ObjectImpl& object) const {
  return enabled_ && object.size_bytes() > kSmall;
}

uint64_t Prefetcher::room_for(PrefetchLedger::From from) const {
  const auto left = [](uint64_t budget, uint64_t used) { return budget - std::min(budget, used); };
  uint64_t room = left(budget_, ledger_.unread_bytes());
  // Sources that do not answer must not keep the disk from being read ahead.
  if (from == PrefetchLedger::From::kSource) {
    room = std::min(room, left(budget_ / 4 * 3, ledger_.unread_bytes(from)));
  }
  // Half of it, so that streams which come together come to have the same.
  return room / 2;
}

void Prefetcher::on_read(StoreCore& core, ObjectImpl& object, Readahead::Read read) {
  if (NoReadahead::is_set()) return;
  read.now_ns = monotonic_ns();
  const auto room = [this, &core, from = object.comes_from()] {
    if (ledger_.unread_bytes() > budget_ / 2) core.memory.drop_stale();
    return room_for(from);
  };
  Readahead::Stretches stretches;
  {
    ObjectReadahead& state = object.readahead(max_window_);
    const absl::MutexLock lock(&state.mutex);
    const uint64_t evictions = object.evicted_unread().load(std::memory_order_relaxed);
    if (std::exchange(state.evictions, evictions) != evictions) {
      state.readahead.on_evicted_unread();
    }
    stretches = state.readahead.on_read(read, room);
  }
  if (stretches.empty()) return;
  // The store's ring brings it, whatever the thread does for its own reads.
  const AllowBlocking no_blocking(false);
  const ThreadRing::NoScope by_the_store;
  const std::shared_ptr<ObjectImpl> self = object.shared_from_this();
  for (const Readahead::Stretch& stretch : stretches) bring(core, self, stretch);
}

void Prefetcher::bring(StoreCore& core, const std::shared_ptr<ObjectImpl>& object,
                       const Readahead::Stretch& stretch) {
  const uint64_t end =
      std::min((stretch.offset + stretch.length + kPageSize - 1) / kPageSize * kPageSize,
               object->size_bytes());
  for (uint64_t at = stretch.offset / kPageSize * kPageSize; at < end;) {
    const uint64_t stop = std::min(end, (at / Object::kMaxRead + 1) * Object::kMaxRead);
    const int64_t begun_ns = monotonic_ns();
    auto done = [object, begun_ns](const absl::StatusOr<PinnedRange>& range) {
      const int64_t now_ns = monotonic_ns();
      ObjectReadahead& state = object->readahead(Readahead::kFirstWindow);
      const absl::MutexLock lock(&state.mutex);
      if (range.ok()) {
        state.readahead.on_answer(now_ns - begun_ns);
      } else {
        state.readahead.on_failure(now_ns);
      }
    };
    core.ledger.plan(object->comes_from(), stop - at);
    std::make_shared<ReadOperation>(core, object, ReadOperation::Order{at, stop - at, true},
                                    std::move(done))
        ->begin();
    at = stop;
  }
}

}  // namespace blobcache::page
