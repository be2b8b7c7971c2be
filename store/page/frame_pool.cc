#include "store/page/frame_pool.h"

#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace blobcache::page {
namespace {

/// How many more frames than the budget could fill: a workload of single pages then still fills
/// half of it.
constexpr uint64_t kSparseFactor = 32;

uint32_t frames_for(uint64_t budget_bytes) {
  const uint64_t dense = std::max<uint64_t>(1, budget_bytes >> kExtentShift);
  return static_cast<uint32_t>(std::min<uint64_t>(dense * kSparseFactor, uint64_t{1} << 30));
}

uint64_t count(PageMask pages) { return static_cast<uint64_t>(std::popcount(pages)); }

}  // namespace

FramePool::FramePool(uint64_t budget_bytes)
    : budget_pages_(budget_bytes >> kPageShift),
      frame_count_(frames_for(budget_bytes)),
      frames_(std::make_unique<Frame[]>(frame_count_)) {
  const uint64_t bytes = mapped_bytes();
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    spdlog::critical("cannot reserve {} bytes of address space for the memory tier", bytes);
    std::abort();
  }
  // Huge pages would make one touched page cost 2 MiB, against what is accounted.
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);
  ::madvise(memory, bytes, MADV_DONTDUMP);
  memory_ = static_cast<std::byte*>(memory);
  // Never written, so that every page of it stays the kernel's one zero page.
  ::mprotect(zeros(), kExtentSize, PROT_READ);
}

FramePool::~FramePool() { ::munmap(memory_, mapped_bytes()); }

void FramePool::push(FreeList& list, uint32_t index) {
  uint64_t head = list.head.load(std::memory_order_relaxed);
  uint64_t next_head = 0;
  do {
    frames_[index].next.store(static_cast<uint32_t>(head), std::memory_order_relaxed);
    next_head = ((head >> 32) + 1) << 32 | index;
  } while (!list.head.compare_exchange_weak(head, next_head, std::memory_order_release,
                                            std::memory_order_relaxed));
  list.size.fetch_add(1, std::memory_order_relaxed);
}

std::optional<uint32_t> FramePool::pop(FreeList& list) {
  uint64_t head = list.head.load(std::memory_order_acquire);
  uint64_t next_head = 0;
  do {
    const auto index = static_cast<uint32_t>(head);
    if (index == kNone) return std::nullopt;
    // A frame that another thread pops meanwhile makes this value stale; the counter then fails the
    // swap.
    const uint32_t next = frames_[index].next.load(std::memory_order_relaxed);
    next_head = ((head >> 32) + 1) << 32 | next;
  } while (!list.head.compare_exchange_weak(head, next_head, std::memory_order_acquire,
                                            std::memory_order_acquire));
  list.size.fetch_sub(1, std::memory_order_relaxed);
  return static_cast<uint32_t>(head);
}

std::optional<uint32_t> FramePool::pop_cold() {
  if (const auto index = pop(cold_)) return index;
  uint32_t fresh = never_used_.load(std::memory_order_relaxed);
  while (fresh < frame_count_) {
    if (never_used_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed))
      return fresh;
  }
  return std::nullopt;
}

bool FramePool::charge_pages(uint64_t pages) {
  uint64_t resident = resident_.load(std::memory_order_relaxed);
  do {
    if (resident + pages > budget_pages_) return false;
  } while (!resident_.compare_exchange_weak(resident, resident + pages, std::memory_order_relaxed));
  return true;
}

FrameRef FramePool::hand_out(uint32_t index) {
  const uint32_t generation = generation_of(frames_[index].state.load(std::memory_order_relaxed));
  frames_[index].state.store(uint64_t{generation} << 32 | 1, std::memory_order_relaxed);
  return {index, generation};
}

std::optional<FrameRef> FramePool::acquire(PageMask wanted) {
  const int pages = std::popcount(wanted);
  if (pages >= kDensePages) {
    if (const auto warm = pop(warm_)) return hand_out(*warm);
  } else if (pages == 1) {
    if (const auto single = pop_single(std::countr_zero(wanted))) return hand_out(*single);
  }
  std::optional<uint32_t> cold = pop_cold();
  // Every frame is in use or kept for its pages.
  if (!cold && drop_reserve()) cold = pop_cold();
  if (!cold) return std::nullopt;
  if (!charge(*cold, wanted)) {
    push(cold_, *cold);
    return std::nullopt;
  }
  return hand_out(*cold);
}

std::optional<uint32_t> FramePool::pop_single(int page) {
  const auto frame = pop(single_.at(static_cast<size_t>(page)));
  if (frame) single_frames_.fetch_sub(1, std::memory_order_relaxed);
  return frame;
}

/// Gives one free frame's pages back to the kernel and the budget. False when none has any.
bool FramePool::drop_reserve() {
  std::optional<uint32_t> frame = pop(warm_);
  const uint32_t start = next_dropped_.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < kPagesPerExtent && !frame; ++i) {
    frame = pop_single(static_cast<int>((start + i) % kPagesPerExtent));
  }
  if (!frame) return false;
  give_back(*frame);
  push(cold_, *frame);
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

bool FramePool::begin_evict(FrameRef ref) {
  uint64_t expected = uint64_t{ref.generation} << 32;
  return frames_[ref.index].state.compare_exchange_strong(
      expected, expected | kEvicting, std::memory_order_acquire, std::memory_order_relaxed);
}

void FramePool::give_back(uint32_t index) {
  const PageMask touched = frames_[index].touched.exchange(0, std::memory_order_relaxed);
  if (touched == 0) return;
  ::madvise(data(index), kExtentSize, MADV_DONTNEED);
  resident_.fetch_sub(count(touched), std::memory_order_relaxed);
}

void FramePool::release(uint32_t index) {
  Frame& frame = frames_[index];
  const uint32_t generation = generation_of(frame.state.load(std::memory_order_relaxed));
  const PageMask touched = frame.touched.load(std::memory_order_relaxed);
  const bool full = touched == ~PageMask{0};
  const bool single = std::popcount(touched) == 1;
  if (!full && !single) give_back(index);
  // Unsigned wrap after 2^32 uses of one frame is harmless: no reference is held that long.
  frame.state.store(uint64_t{generation + 1} << 32, std::memory_order_release);
  if (single) {
    push(single_.at(static_cast<size_t>(std::countr_zero(touched))), index);
    single_frames_.fetch_add(1, std::memory_order_relaxed);
  } else {
    push(full ? warm_ : cold_, index);
  }
}

void FramePool::release_pinned(FrameRef ref) {
  // Nobody else can pin it: there is no need to ask.
  release(ref.index);
}

uint64_t FramePool::available_frames() const {
  const int64_t singles = single_frames_.load(std::memory_order_relaxed);
  return frame_count_ - used_frames() + uint64_t{warm_.size.load(std::memory_order_relaxed)} +
         cold_.size.load(std::memory_order_relaxed) +
         static_cast<uint64_t>(std::max<int64_t>(singles, 0));
}

uint64_t FramePool::available_pages() const {
  const uint64_t resident = resident_pages();
  const uint64_t uncharged = budget_pages_ > resident ? budget_pages_ - resident : 0;
  const int64_t singles = single_frames_.load(std::memory_order_relaxed);
  return uncharged + uint64_t{warm_.size.load(std::memory_order_relaxed)} * kPagesPerExtent +
         static_cast<uint64_t>(std::max<int64_t>(singles, 0));
}

}  // namespace blobcache::page
