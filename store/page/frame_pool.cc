#include "store/page/frame_pool.h"

#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>

namespace blobcache::page {
namespace {

/// How many more frames than the budget could fill: a workload of single pages then still fills
/// half of it.
constexpr uint64_t kSparseFactor = 32;

uint32_t frames_for(uint64_t budget_bytes) {
  const uint64_t dense = std::max<uint64_t>(1, budget_bytes >> kExtentShift);
  return static_cast<uint32_t>(std::min<uint64_t>(dense * kSparseFactor, uint64_t{1} << 30));
}

constexpr PageMask kAllPages = ~PageMask{0};

/// Without counting, which is a call where the processor may be any of its kind.
bool is_single(PageMask pages) { return pages != 0 && (pages & (pages - 1)) == 0; }

uint64_t count(PageMask pages) { return static_cast<uint64_t>(std::popcount(pages)); }

/// Room for the counters of so many frames, and one cache line between two shards.
uint64_t shard_size_for(uint32_t frames) {
  return uint64_t{frames} + 64 / sizeof(std::atomic<uint32_t>);
}

}  // namespace

FramePool::FramePool(uint64_t budget_bytes, uint32_t processors)
    : budget_pages_(budget_bytes >> kPageShift),
      frame_count_(frames_for(budget_bytes)),
      shards_(std::bit_floor(std::clamp<uint32_t>(processors, 1, kMaxShards))),
      shard_size_(shard_size_for(frame_count_)),
      frames_(frame_count_),
      pins_(shards_ * shard_size_) {
  const uint64_t bytes = mapped_bytes();
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    spdlog::critical("cannot reserve {} bytes of address space for the memory tier", bytes);
    std::abort();
  }
  // Huge pages would make one touched page cost 2 MiB, against what is accounted; slabs are
  // accounted as a whole.
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);
  ::madvise(memory, bytes, MADV_DONTDUMP);
  mapping_ = memory;
  size_t room = bytes;
  memory_ = static_cast<std::byte*>(std::align(kSlabSize, bytes - kSlabSize, memory, room));
}

uint32_t FramePool::all_processors() {
  return static_cast<uint32_t>(std::max<long>(1, ::sysconf(_SC_NPROCESSORS_CONF)));
}

FramePool::~FramePool() { ::munmap(mapping_, mapped_bytes()); }

void FramePool::push(FreeList& list, uint32_t index) {
  uint64_t head = list.head.load(std::memory_order_acquire);
  uint64_t next_head = 0;
  Frame& frame = frames_[index];
  do {
    const auto below = static_cast<uint32_t>(head);
    const uint64_t depth =
        below == kNone ? 0 : frames_[below].link.load(std::memory_order_relaxed) >> 32;
    frame.link.store((depth + 1) << 32 | below, std::memory_order_relaxed);
    next_head = ((head >> 32) + 1) << 32 | index;
  } while (!list.head.compare_exchange_weak(head, next_head, std::memory_order_release,
                                            std::memory_order_acquire));
}

uint32_t FramePool::size(const FreeList& list) const {
  constexpr int kTries = 4;
  uint64_t head = list.head.load(std::memory_order_acquire);
  uint32_t depth = 0;
  for (int i = 0; i < kTries; ++i) {
    const auto top = static_cast<uint32_t>(head);
    if (top == kNone) return 0;
    depth = static_cast<uint32_t>(frames_[top].link.load(std::memory_order_acquire) >> 32);
    // Unless it is at the top still, it may tell of another list by now.
    const uint64_t now = list.head.load(std::memory_order_relaxed);
    if (now == head) break;
    head = now;
  }
  return depth;
}

uint32_t FramePool::pop(FreeList& list) {
  uint64_t head = list.head.load(std::memory_order_acquire);
  uint64_t next_head = 0;
  do {
    const auto index = static_cast<uint32_t>(head);
    if (index == kNone) return kNone;
    // A frame that another thread pops meanwhile makes this value stale; the counter then fails the
    // swap.
    const auto next = static_cast<uint32_t>(frames_[index].link.load(std::memory_order_relaxed));
    next_head = ((head >> 32) + 1) << 32 | next;
  } while (!list.head.compare_exchange_weak(head, next_head, std::memory_order_acquire,
                                            std::memory_order_acquire));
  return static_cast<uint32_t>(head);
}

uint32_t FramePool::pop_cold() {
  if (const uint32_t index = pop(cold_); index != kNone) return index;
  uint32_t fresh = never_used_.load(std::memory_order_relaxed);
  while (fresh < frame_count_) {
    if (never_used_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed))
      return fresh;
  }
  return kNone;
}

uint32_t FramePool::pop_slab() {
  constexpr uint64_t kPages = kSlabSize >> kPageShift;
  uint32_t unused = never_used_.load(std::memory_order_relaxed);
  // Few frames are no reason to touch many.
  if (unused < kSlabFrames || !charge_pages(kPages)) return kNone;
  uint32_t first = 0;
  do {
    first = (unused + kSlabFrames - 1) / kSlabFrames * kSlabFrames;
    if (first + kSlabFrames > frame_count_) {
      resident_.fetch_sub(kPages, std::memory_order_relaxed);
      return kNone;
    }
  } while (
      !never_used_.compare_exchange_weak(unused, first + kSlabFrames, std::memory_order_relaxed));
  for (uint32_t skipped = unused; skipped < first; ++skipped) push(cold_, skipped);
  // Huge for as long as it is touched for the first time: later the kernel must not fill what was
  // given back. One that cannot do this (before Linux 5.14) leaves the pages to their first use.
  ::madvise(data(first), kSlabSize, MADV_HUGEPAGE);
  ::madvise(data(first), kSlabSize, MADV_POPULATE_WRITE);
  ::madvise(data(first), kSlabSize, MADV_NOHUGEPAGE);
  for (uint32_t frame = first; frame < first + kSlabFrames; ++frame) {
    frames_[frame].touched.store(kAllPages, std::memory_order_relaxed);
    if (frame != first) push(warm_, frame);
  }
  return first;
}

bool FramePool::charge_pages(uint64_t pages) {
  uint64_t resident = resident_.load(std::memory_order_relaxed);
  do {
    if (resident + pages > budget_pages_) return false;
  } while (!resident_.compare_exchange_weak(resident, resident + pages, std::memory_order_relaxed));
  return true;
}

uint64_t FramePool::acquire_word(PageMask wanted) {
  uint32_t frame = kNone;
  if (wanted == kAllPages) {
    frame = pop(warm_);
    if (frame != kNone) return current(frame).to_word();
  } else if (is_single(wanted)) {
    frame = pop_single(std::countr_zero(wanted));
  } else if (count(wanted) >= kDensePages) {
    frame = pop(warm_);
  }
  if (frame == kNone && wanted == kAllPages) frame = pop_slab();
  if (frame == kNone) frame = acquire_cold(wanted);
  return frame == kNone ? kNoFrame : current(frame).to_word();
}

/// A frame whose pages have to be charged.
uint32_t FramePool::acquire_cold(PageMask wanted) {
  uint32_t cold = pop_cold();
  // Every frame is in use or kept for its pages.
  if (cold == kNone && drop_reserve()) cold = pop_cold();
  if (cold == kNone || charge(cold, wanted)) return cold;
  push(cold_, cold);
  return kNone;
}

uint32_t FramePool::pop_single(int page) {
  const uint32_t frame = pop(single_.at(static_cast<size_t>(page)));
  if (frame != kNone) single_frames_.fetch_sub(1, std::memory_order_relaxed);
  return frame;
}

/// Gives one free frame's pages back to the kernel and the budget. False when none has any.
bool FramePool::drop_reserve() {
  uint32_t frame = pop(warm_);
  const uint32_t start = next_dropped_.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < kPagesPerExtent && frame == kNone; ++i) {
    frame = pop_single(static_cast<int>((start + i) % kPagesPerExtent));
  }
  if (frame == kNone) return false;
  give_back(frame);
  push(cold_, frame);
  return true;
}

bool FramePool::charge(uint32_t index, PageMask wanted) {
  const PageMask touched = frames_[index].touched.load(std::memory_order_relaxed);
  const PageMask fresh = wanted & ~touched;
  if (fresh == 0) return true;
  while (!charge_pages(count(fresh))) {
    if (!drop_reserve()) return false;
  }
  frames_[index].touched.store(touched | fresh, std::memory_order_relaxed);
  return true;
}

bool FramePool::pinned(uint32_t index) const {
  for (uint32_t shard = 0; shard < shards_; ++shard) {
    if (pins(index, shard).load(std::memory_order_seq_cst) != 0) return true;
  }
  return false;
}

bool FramePool::begin_evict(FrameRef ref) {
  // Asked first without a claim, which would make readers fail for nothing.
  if (pinned(ref.index)) return false;
  std::atomic<uint64_t>& word = frames_[ref.index].word;
  uint64_t expected = open_word(ref.generation);
  if (!word.compare_exchange_strong(expected, exclusive_word(ref.generation),
                                    std::memory_order_seq_cst, std::memory_order_relaxed)) {
    return false;
  }
  if (!pinned(ref.index)) return true;
  // With release, since who pins now has open()'s bytes through this store.
  word.store(open_word(ref.generation), std::memory_order_release);
  return false;
}

void FramePool::give_back(uint32_t index) {
  const PageMask touched = frames_[index].touched.exchange(0, std::memory_order_relaxed);
  if (touched == 0) return;
  // A part of a huge page would only go once the kernel is short of memory. This call splits it,
  // unless one of its pages is being read into. All pages of a slab's frame are touched until here.
  if (touched == kAllPages) ::madvise(data(index), kExtentSize, MADV_COLD);
  ::madvise(data(index), kExtentSize, MADV_DONTNEED);
  resident_.fetch_sub(count(touched), std::memory_order_relaxed);
}

void FramePool::release(uint32_t index) {
  Frame& frame = frames_[index];
  const uint32_t generation = generation_of(frame.word.load(std::memory_order_relaxed));
  const PageMask touched = frame.touched.load(std::memory_order_relaxed);
  // Unsigned wrap after 2^32 uses of one frame is harmless: no reference is held that long.
  const uint64_t next_word = exclusive_word(generation + 1);
  if (touched == kAllPages) {
    frame.word.store(next_word, std::memory_order_relaxed);
    return push(warm_, index);
  }
  const bool single = is_single(touched);
  if (!single) give_back(index);
  frame.word.store(next_word, std::memory_order_relaxed);
  if (single) {
    push(single_.at(static_cast<size_t>(std::countr_zero(touched))), index);
    single_frames_.fetch_add(1, std::memory_order_relaxed);
  } else {
    push(cold_, index);
  }
}

uint64_t FramePool::available_frames() const {
  const int64_t singles = single_frames_.load(std::memory_order_relaxed);
  return frame_count_ - used_frames() + uint64_t{size(warm_)} + size(cold_) +
         static_cast<uint64_t>(std::max<int64_t>(singles, 0));
}

uint64_t FramePool::available_pages() const {
  const uint64_t resident = resident_pages();
  const uint64_t uncharged = budget_pages_ > resident ? budget_pages_ - resident : 0;
  const int64_t singles = single_frames_.load(std::memory_order_relaxed);
  return uncharged + uint64_t{size(warm_)} * kPagesPerExtent +
         static_cast<uint64_t>(std::max<int64_t>(singles, 0));
}

}  // namespace blobcache::page
