#include "store/page/impl/memory_tier.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/time/clock.h"
#include "store/page/impl/object_impl.h"
#include "store/page/monotonic_clock.h"

namespace blobcache::page {
namespace {

/// Free pages that the background keeps: 1/32 of the budget, at most 16 MiB, and twice that when it
/// is done.
uint64_t low_watermark(uint64_t budget_pages) {
  return std::min<uint64_t>(budget_pages / 32, (uint64_t{16} << 20) >> kPageShift);
}

/// The same for frames, which run out first when each holds a page or two.
uint64_t low_frames(uint64_t frames) { return std::min<uint64_t>(frames / 32, 4096); }

/// How many pinned victims one eviction looks past before it gives up.
constexpr size_t kMaxPinnedVictims = 256;

}  // namespace

MemoryTier::MemoryTier(uint64_t budget_bytes, absl::Duration stale_after, FlightTable& flights,
                       PrefetchLedger& ledger, Counters& counters)
    : pool_(budget_bytes),
      uses_(pool_.frame_count()),
      flights_(flights),
      ledger_(ledger),
      counters_(counters),
      stale_after_ns_(absl::ToInt64Nanoseconds(stale_after)),
      low_pages_(low_watermark(pool_.budget_pages())),
      high_pages_(2 * low_pages_),
      low_frames_(low_frames(pool_.frame_count())),
      high_frames_(2 * low_frames_),
      owners_(pool_.frame_count()),
      links_(pool_.frame_count()),
      waiting_(links_),
      waits_since_ns_(pool_.frame_count()) {}

absl::StatusOr<std::unique_ptr<MemoryTier>> MemoryTier::create(
    uint64_t budget_bytes, std::string_view eviction, absl::Duration stale_after,
    FlightTable& flights, PrefetchLedger& ledger, Counters& counters) {
  std::unique_ptr<MemoryTier> tier(new MemoryTier(budget_bytes, stale_after, flights, ledger,
                                                  counters));  // NOLINT: private constructor
  auto policy = make_eviction_policy(eviction, tier->pool_.frame_count(), tier->uses_);
  if (!policy.ok()) return policy.status();
  {
    absl::MutexLock lock(&tier->mutex_);
    tier->policy_ = *std::move(policy);
  }
  tier->thread_ = std::thread([raw = tier.get()] { raw->run(); });
  return tier;
}

MemoryTier::~MemoryTier() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&wake_mutex_);
    ending_ = true;
  }
  thread_.join();
}

std::optional<FrameRef> MemoryTier::acquire(PageMask wanted) {
  std::optional<FrameRef> frame = pool_.acquire(wanted);
  while (!frame && make_room(kPagesPerExtent)) frame = pool_.acquire(wanted);
  wake_if_low();
  return frame;
}

bool MemoryTier::charge(uint32_t frame, PageMask pages) {
  const bool charged = pool_.charge(frame, pages);
  wake_if_low();
  return charged;
}

bool MemoryTier::make_room(uint64_t pages) {
  const uint64_t wanted = pool_.available_pages() + pages;
  absl::MutexLock lock(&mutex_);
  if (!evict_one()) return false;
  while (pool_.available_pages() < wanted && evict_one()) {
  }
  return true;
}

bool MemoryTier::evict_one() {
  const bool evicted = evict_waiting(/*only_stale=*/true) || evict_by_policy() ||
                       evict_waiting(/*only_stale=*/false);
  if (evicted) counters_.add(Counters::kMemoryEvictedExtents);
  return evicted;
}

bool MemoryTier::evict_waiting(bool only_stale) {
  size_t looked = 0;
  for (uint32_t frame = waiting_.oldest(); frame != SlotQueue::kNone && looked < kMaxPinnedVictims;
       ++looked) {
    const int64_t waited_ns =
        only_stale ? monotonic_ns() - waits_since_ns_[frame] : stale_after_ns_;
    if (waited_ns < stale_after_ns_) return false;
    const uint32_t next = waiting_.newer(frame);
    if (Owner& owner = owners_[frame];
        owner.object != nullptr && owner.object->extents().get(owner.extent).unread == 0) {
      // It was read by somebody who came before it was in the queue, or could not be brought.
      hand_to_policy(frame);
    } else if (detach(frame, owner)) {
      end_waiting(frame);
      return true;
    }
    frame = next;
  }
  return false;
}

void MemoryTier::end_waiting(uint32_t frame) {
  waiting_.remove(frame);
  waits_since_ns_[frame] = 0;
}

void MemoryTier::promote(uint32_t frame) {
  absl::MutexLock lock(&mutex_);
  const Owner& owner = owners_[frame];
  // It dies with its object when that is gone.
  if (waits_since_ns_[frame] == 0 || owner.object == nullptr) return;
  hand_to_policy(frame);
}

void MemoryTier::hand_to_policy(uint32_t frame) {
  end_waiting(frame);
  const Owner& owner = owners_[frame];
  policy_->insert(frame, ExtentId{owner.object->id(), owner.extent}.hash());
}

void MemoryTier::drop_stale() {
  absl::MutexLock lock(&mutex_);
  while (evict_waiting(/*only_stale=*/true)) counters_.add(Counters::kMemoryEvictedExtents);
}

bool MemoryTier::evict_by_policy() {
  // Pinned ones come back only afterwards: a policy that prefers one of its queues would offer the
  // same ones for ever.
  absl::InlinedVector<uint32_t, 32> pinned;
  bool evicted = false;
  while (!evicted && pinned.size() < kMaxPinnedVictims) {
    const std::optional<uint32_t> victim = policy_->evict();
    if (!victim) break;
    evicted = detach(*victim, owners_[*victim]);
    if (!evicted) pinned.push_back(*victim);
  }
  for (const uint32_t frame : pinned) {
    const Owner& owner = owners_[frame];
    const uint64_t object = owner.object == nullptr ? 0 : owner.object->id();
    policy_->restore(frame, ExtentId{object, owner.extent}.hash());
  }
  return evicted;
}

bool MemoryTier::detach(uint32_t frame, const Owner& owner) {
  const FrameRef ref = pool_.current(frame);
  if (owner.object == nullptr) {
    // The object died while a reader held the frame; nothing refers to it any more.
    if (!pool_.begin_evict(ref)) return false;
  } else {
    const ExtentId id{owner.object->id(), owner.extent};
    Extent& extent = owner.object->extents().get(owner.extent);
    absl::MutexLock lock(&flights_.shard(id).mutex);
    if (!pool_.begin_evict(ref)) return false;
    extent.in_memory.store(0, std::memory_order_release);
    extent.frame.store(Extent::kNoFrame, std::memory_order_release);
    owner.object->frames().fetch_sub(1, std::memory_order_relaxed);
    if (ledger_.evict(owner.object->comes_from(), extent)) {
      owner.object->evicted_unread().fetch_add(1, std::memory_order_relaxed);
    }
  }
  owners_[frame] = {};
  pool_.release(frame);
  return true;
}

void MemoryTier::adopt(uint32_t frame, ObjectImpl& object, uint64_t extent, bool ahead) {
  absl::MutexLock lock(&mutex_);
  owners_[frame] = {&object, extent};
  object.frames().fetch_add(1, std::memory_order_relaxed);
  if (ahead) {
    waits_since_ns_[frame] = monotonic_ns();
    waiting_.push(frame);
  } else {
    policy_->insert(frame, ExtentId{object.id(), extent}.hash());
  }
}

uint64_t MemoryTier::drop(ObjectImpl& object, bool dying) {
  uint64_t dropped = 0;
  absl::MutexLock lock(&mutex_);
  object.extents().for_each_touched([&](uint64_t index, Extent& extent) {
    mutex_.AssertHeld();
    const uint64_t word = extent.frame.load(std::memory_order_acquire);
    if (word == Extent::kNoFrame) return;
    const uint32_t frame = FrameRef::from_word(word).index;
    // A frame that a reader has attached and not yet adopted is pinned by that reader.
    if (owners_[frame].object != &object || owners_[frame].extent != index) return;
    const auto pages = static_cast<uint64_t>(std::popcount(extent.in_memory.load()));
    if (detach(frame, owners_[frame])) {
      if (waits_since_ns_[frame] != 0) {
        end_waiting(frame);
      } else {
        policy_->erase(frame);
      }
      dropped += pages;
    } else if (dying) {
      owners_[frame] = {};
    }
  });
  return dropped;
}

bool MemoryTier::has(uint64_t pages, uint64_t frames) const {
  return pool_.available_pages() >= pages && pool_.available_frames() >= frames;
}

void MemoryTier::wake_if_low() {
  if (has(low_pages_, low_frames_)) return;
  if (wake_sent_.exchange(true, std::memory_order_relaxed)) return;
  absl::MutexLock lock(&wake_mutex_);
  low_ = true;
}

void MemoryTier::retry_later(absl::AnyInvocable<void()> retry) {
  absl::MutexLock lock(&wake_mutex_);
  retries_.push_back(std::move(retry));
}

bool MemoryTier::has_retries() {
  absl::MutexLock lock(&wake_mutex_);
  return !retries_.empty();
}

void MemoryTier::run() {
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(wake_mutex_) {
    return ending_ || low_ || !retries_.empty();
  };
  while (true) {
    std::vector<absl::AnyInvocable<void()>> retries;
    {
      absl::MutexLock lock(&wake_mutex_);
      wake_mutex_.Await(absl::Condition(&work));
      if (ending_ && retries_.empty()) return;
      low_ = false;
      wake_sent_.store(false, std::memory_order_relaxed);
      retries.swap(retries_);
    }
    bool stuck = false;
    while (!stuck && !has(high_pages_, high_frames_)) stuck = !make_room(kPagesPerExtent);
    for (auto& retry : retries) retry();
    // Everything is pinned (or every frame, with pages left): pins go within their holders'
    // deadlines, so look again in a moment.
    const bool waited_for = !retries.empty() && has_retries();
    if (stuck || waited_for) absl::SleepFor(absl::Milliseconds(waited_for ? 1 : 10));
    if (stuck) wake_if_low();
  }
}

uint64_t MemoryTier::pinned_frames() const {
  uint64_t pinned = 0;
  for (uint32_t frame = 0; frame < pool_.used_frames(); ++frame) pinned += pool_.pinned(frame);
  return pinned;
}

}  // namespace blobcache::page
