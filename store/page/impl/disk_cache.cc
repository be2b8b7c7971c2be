#include "store/page/impl/disk_cache.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// What one round of the thread writes, before it looks at its tasks again.
constexpr uint64_t kMaxRoundBytes = uint64_t{16} << 20;
constexpr size_t kRoundFills = 1024;
/// Fills that wait, whatever their bytes: each holds a frame, perhaps a full one.
constexpr uint64_t kMaxLineFills = 4096;
/// How many of the youngest fills are looked at for one of the same extent.
constexpr size_t kMergeLooks = 8;
/// How often files are looked at that nobody uses.
constexpr absl::Duration kMaxSweepPause = absl::Minutes(1);

/// Extents may be sparse, a quarter full on average. The bound is 16 TiB of full ones; address
/// space is all that they cost.
size_t slots_for(uint64_t disk_bytes) {
  return std::clamp<uint64_t>(4 * (disk_bytes >> kExtentShift), 1024, uint64_t{1} << 26);
}

}  // namespace

DiskCache::DiskCache(const PageStoreOptions& options, DiskTier& disk, ObjectTable& objects)
    : state_(disk, objects),
      evictor_(state_),
      writer_(state_, evictor_),
      headroom_bytes_(std::min<uint64_t>(options.disk_bytes / 64, uint64_t{256} << 20)),
      round_bytes_(std::min<uint64_t>(options.disk_bytes / 32, kMaxRoundBytes)),
      line_bytes_(std::clamp<uint64_t>(options.memory_bytes / 8, kExtentSize, uint64_t{64} << 20)),
      line_fills_(std::clamp<uint64_t>(options.memory_bytes / 8 >> kExtentShift, 1, kMaxLineFills)),
      ttl_(options.cached_ttl),
      clock_(options.clock ? options.clock : &absl::Now),
      sweep_pause_(std::min(kMaxSweepPause, ttl_ / 2)) {}

absl::StatusOr<std::unique_ptr<DiskCache>> DiskCache::create(const PageStoreOptions& options,
                                                             DiskTier& disk, ObjectTable& objects) {
  std::unique_ptr<DiskCache> cache(
      new DiskCache(options, disk, objects));  // NOLINT: private constructor
  auto extents = CachedExtents::create(options.eviction, slots_for(options.disk_bytes));
  if (!extents.ok()) return extents.status();
  absl::MutexLock lock(&cache->state_.mutex);
  cache->state_.extents = *std::move(extents);
  return cache;
}

DiskCache::~DiskCache() { stop(); }

DiskCache::Leases DiskCache::start(StoreCore& core, const std::vector<LentObject>& lent) {
  state_.core = &core;
  Leases leases;
  for (const LentObject& object : lent) {
    leases[object.key] = attach({object.key, object.size_bytes, nullptr})->keep_lent();
  }
  {
    absl::MutexLock lock(&state_.mutex);
    ending_ = false;
    busy_ = true;
  }
  state_.disk.budget().await_fills();
  state_.disk.budget().set_fill_reclaimer(this);
  thread_ = std::thread([this] { run(); });
  return leases;
}

void DiskCache::stop() {
  if (!thread_.joinable()) return;
  state_.disk.budget().set_fill_reclaimer(nullptr);
  {
    absl::MutexLock lock(&state_.mutex);
    ending_ = true;
  }
  thread_.join();
}

// ---- what others call

std::shared_ptr<ObjectImpl> DiskCache::attach(const CachedSpec& spec) {
  {
    absl::MutexLock lock(&state_.mutex);
    CachedFile* file = state_.extents->find(spec.key);
    if (file != nullptr) return attach(*file, spec);
  }
  // Not counted yet, or new. Nobody changes the files of an object that is in no table.
  const absl::StatusOr<MapHeader> header = state_.folder.header(spec.key);
  const bool usable = header.ok() && header->size_bytes == spec.size_bytes;
  absl::MutexLock lock(&state_.mutex);
  CachedFile* file = state_.extents->find(spec.key);
  if (file == nullptr) {
    if (!usable && !absl::IsNotFound(header.status())) {
      spdlog::warn("cached pages of object {} are of no use: {}", spec.key.hex(),
                   header.ok() ? "another size" : base::message(header.status()));
      if (const absl::Status removed = state_.folder.remove(spec.key); !removed.ok()) {
        spdlog::warn("cannot remove them: {}", base::message(removed));
      }
    }
    file = &state_.extents->add(spec.key, usable ? header->incarnation : Incarnation::random(),
                                spec.size_bytes);
    file->pinned = pinned_.contains(spec.key);
  }
  return attach(*file, spec);
}

std::shared_ptr<ObjectImpl> DiskCache::attach(CachedFile& file, const CachedSpec& spec) {
  file.used_ns = absl::ToUnixNanos(clock_());
  std::shared_ptr<ObjectImpl> object =
      state_.objects.attach(spec_of(file, spec.source), *state_.core);
  object->set_source(spec.source);
  return object;
}

void DiskCache::pin(const ObjectKey& key, bool pinned) {
  absl::MutexLock lock(&state_.mutex);
  if (pinned) {
    pinned_.insert(key);
  } else {
    pinned_.erase(key);
  }
  if (CachedFile* file = state_.extents->find(key); file != nullptr) {
    state_.extents->pin(*file, pinned);
  }
}

void DiskCache::forget(const ObjectKey& key) {
  absl::Notification done;
  const bool posted = post([this, &key, &done] {
    if (!evictor_.evict_file(key)) evictor_.remove_unknown(key);
    done.Notify();
  });
  if (posted) done.WaitForNotification();
}

void DiskCache::wait_idle() {
  absl::MutexLock lock(&state_.mutex);
  const auto idle = [this]()
                        ABSL_SHARED_LOCKS_REQUIRED(state_.mutex) { return !busy_ && !has_work(); };
  state_.mutex.Await(absl::Condition(&idle));
}

void DiskCache::fill(std::shared_ptr<ObjectImpl> object, uint64_t extent, Pin pin, PageMask pages) {
  const uint64_t bytes = uint64_t{page_total(pages)} << kPageShift;
  {
    absl::MutexLock lock(&state_.mutex);
    if (!ending_ && state_.disk.punches_holes() && line_used_bytes_ + bytes <= line_bytes_ &&
        enter(std::move(object), extent, pin, pages)) {
      line_used_bytes_ += bytes;
      return;
    }
  }
  state_.core->counters.add(Counters::kFillDroppedBytes, bytes);
}

bool DiskCache::enter(std::shared_ptr<ObjectImpl> object, uint64_t extent, Pin pin,
                      PageMask pages) {
  // The frame that a fill has pinned stays the extent's.
  const size_t looks = std::min(fills_.size(), kMergeLooks);
  for (auto fill = fills_.rbegin(); fill != fills_.rbegin() + static_cast<std::ptrdiff_t>(looks);
       ++fill) {
    if (fill->object != object || fill->extent != extent) continue;
    fill->pages |= pages;
    return true;
  }
  if (line_used_fills_ == line_fills_) return false;
  ++line_used_fills_;
  state_.core->memory.pool().pin_again(pin);
  fills_.push_back({std::move(object), extent, pin, pages, 0});
  return true;
}

void DiskCache::use(const ObjectImpl& object, uint64_t extent) {
  // Called where disk reads end: one use that is not counted is cheaper than all of them waiting.
  if (!state_.mutex.TryLock()) return;
  CachedFile* file = state_.extents->find(object.key());
  if (file != nullptr) {
    file->used_ns = absl::ToUnixNanos(clock_());
    state_.extents->use(*file, static_cast<uint32_t>(extent));
  }
  state_.mutex.Unlock();
}

void DiskCache::use_all(const ObjectImpl& object) {
  absl::MutexLock lock(&state_.mutex);
  CachedFile* file = state_.extents->find(object.key());
  if (file == nullptr) return;
  file->used_ns = absl::ToUnixNanos(clock_());
  for (const auto& [extent, slot] : file->slots) state_.extents->use(*file, extent);
}

struct DiskCache::Reclaim {
  uint64_t wanted = 0;
  uint64_t freed = 0;
  absl::Notification done;
};

uint64_t DiskCache::reclaim(uint64_t bytes) {
  Reclaim reclaim;
  reclaim.wanted = bytes;
  if (post([this, &reclaim] { go_on(reclaim); })) reclaim.done.WaitForNotification();
  return reclaim.freed;
}

void DiskCache::go_on(Reclaim& reclaim) {
  reclaim.freed += evictor_.evict(reclaim.wanted - reclaim.freed);
  if (reclaim.freed < reclaim.wanted && counting_) {
    // What is not counted yet goes before what cannot be had again.
    short_of_.push_back(&reclaim);
  } else {
    reclaim.done.Notify();
  }
}

uint64_t DiskCache::reclaim_files(uint64_t files) {
  uint64_t gone = 0;
  absl::Notification done;
  const bool posted = post([this, files, &gone, &done] {
    gone = evictor_.drop_idle_files(files);
    done.Notify();
  });
  if (posted) done.WaitForNotification();
  return gone;
}

uint64_t DiskCache::extents() const {
  absl::MutexLock lock(&state_.mutex);
  return state_.extents->extents();
}

bool DiskCache::post(Task task) {
  absl::MutexLock lock(&state_.mutex);
  if (ending_) return false;
  tasks_.push_back(std::move(task));
  return true;
}

// ---- the thread

bool DiskCache::has_work() const { return !fills_.empty() || !tasks_.empty(); }

void DiskCache::run() {
  counting_ = true;
  count_what_is_there();
  counting_ = false;
  for (Reclaim* reclaim : short_of_) go_on(*reclaim);
  next_sweep_ = clock_() + sweep_pause_;
  const auto work = [this]()
                        ABSL_SHARED_LOCKS_REQUIRED(state_.mutex) { return ending_ || has_work(); };
  while (true) {
    std::vector<Fill> fills;
    {
      absl::MutexLock lock(&state_.mutex);
      busy_ = false;
      state_.mutex.AwaitWithTimeout(absl::Condition(&work), next_sweep_ - clock_());
      if (ending_ && !has_work()) return;
      busy_ = true;
      fills = take_fills();
    }
    run_tasks();
    if (!fills.empty()) write(fills);
    keep_headroom();
    if (clock_() >= next_sweep_) sweep();
  }
}

std::vector<Fill> DiskCache::take_fills() {
  std::vector<Fill> taken;
  uint64_t bytes = 0;
  while (!fills_.empty() && taken.size() < kRoundFills) {
    bytes += fills_.front().bytes();
    if (bytes > round_bytes_ && !taken.empty()) break;
    taken.push_back(std::move(fills_.front()));
    fills_.pop_front();
  }
  return taken;
}

void DiskCache::write(std::vector<Fill>& fills) {
  uint64_t bytes = 0;
  for (const Fill& fill : fills) bytes += fill.bytes();
  const size_t count = fills.size();
  writer_.write(fills);
  absl::MutexLock lock(&state_.mutex);
  line_used_bytes_ -= bytes;
  line_used_fills_ -= count;
}

void DiskCache::run_tasks() {
  std::vector<Task> tasks;
  {
    absl::MutexLock lock(&state_.mutex);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) task();
}

// ---- what earlier runs left

void DiskCache::count_what_is_there() {
  const auto is_ending = [this] {
    absl::MutexLock lock(&state_.mutex);
    return ending_;
  };
  std::vector<CacheFolder::Found> found;
  for (unsigned folder = 0; folder < CacheFolder::kFolders; ++folder) {
    std::vector<CacheFolder::Found> there = state_.folder.list(folder);
    std::ranges::move(there, std::back_inserter(found));
    if (is_ending()) return;
  }
  uint64_t bytes = 0;
  for (const CacheFolder::Found& file : found) bytes += file.allocated_bytes;
  state_.disk.budget().correct_fill(static_cast<int64_t>(bytes));
  state_.disk.budget().fills_known();
  for (const CacheFolder::Found& file : found) {
    count_file(file);
    run_tasks();
    if (is_ending()) return;
    std::vector<Reclaim*> waiting;
    waiting.swap(short_of_);
    for (Reclaim* reclaim : waiting) go_on(*reclaim);
  }
}

void DiskCache::count_file(const CacheFolder::Found& found) {
  absl::StatusOr<MapHeader> header = state_.folder.header(found.key);
  absl::StatusOr<CacheFolder::Pages> pages = CacheFolder::Pages();
  if (header.ok()) pages = state_.folder.pages(*header);
  // A map that cannot be read is as good as none: what it tells of could not be counted.
  if (!pages.ok()) header = pages.status();
  int64_t difference = -static_cast<int64_t>(found.allocated_bytes);
  {
    absl::MutexLock lock(&state_.mutex);
    const auto before = static_cast<int64_t>(state_.extents->bytes());
    CachedFile* file = state_.extents->find(found.key);
    if (file == nullptr && header.ok()) {
      file = &state_.extents->add(header->key, header->incarnation, header->size_bytes);
      file->used_ns = found.modified_ns;
      file->pinned = pinned_.contains(found.key);
    }
    if (header.ok() && file->incarnation == header->incarnation) {
      for (const auto& [extent, word] : *pages) {
        if (!state_.extents->count_pages(*file, extent, page_total(word))) break;
      }
    } else if (file == nullptr) {
      if (const absl::Status removed = state_.folder.remove(found.key); !removed.ok()) {
        spdlog::warn("cannot remove cached pages of no use: {}", base::message(removed));
        difference = 0;  // still there, so still counted, until the next start
      }
    }
    difference += static_cast<int64_t>(state_.extents->bytes()) - before;
  }
  state_.disk.budget().correct_fill(difference);
  if (!header.ok()) return;
  uint64_t mapped = 0;
  for (const auto& [extent, word] : *pages) mapped += uint64_t{page_total(word)} << kPageShift;
  if (found.allocated_bytes <= mapped) return;
  if (const absl::Status trimmed = state_.folder.trim(*header, *pages); !trimmed.ok()) {
    spdlog::warn("cannot give back what object {} left on disk: {}", found.key.hex(),
                 base::message(trimmed));
  }
}

void DiskCache::keep_headroom() {
  const DiskBudget::Usage usage = state_.disk.budget().usage();
  uint64_t lacking = state_.disk.budget().short_of_space(0);
  if (usage.used + headroom_bytes_ > usage.budget) {
    lacking = std::max(lacking, usage.used + 2 * headroom_bytes_ - usage.budget);
  }
  if (lacking > 0 && usage.filled > 0) evictor_.evict(std::min(usage.filled, lacking));
}

void DiskCache::sweep() {
  const absl::Time now = clock_();
  next_sweep_ = now + sweep_pause_;
  state_.disk.try_again();
  std::vector<ObjectKey> old;
  {
    absl::MutexLock lock(&state_.mutex);
    state_.extents->for_each_file([&](const CachedFile& file) {
      const bool expired = !file.pinned && now - absl::FromUnixNanos(file.used_ns) > ttl_;
      if (expired || file.slots.empty()) old.push_back(file.key);
    });
  }
  for (const ObjectKey& key : old) evictor_.evict_file(key);
}

}  // namespace blobcache::page
