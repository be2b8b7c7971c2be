#include "store/page/page_store.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/time/clock.h"
#include "base/size.h"
#include "base/status.h"
#include "store/page/impl/disk_cache.h"
#include "store/page/impl/leftover_files.h"
#include "store/page/impl/map_repairer.h"
#include "store/page/impl/object_scrub.h"
#include "store/page/impl/object_table.h"
#include "store/page/impl/object_writer_impl.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// Checksum blocks are part of the L0 budget: one for 3.75 MiB of data in use, so these are enough
/// for 60 times what the budget holds. A read whose block is not here costs two reads of the disk,
/// one after the other; a block is worth far more than a page of data.
uint64_t map_cache_bytes(uint64_t memory_bytes) {
  return std::min<uint64_t>(memory_bytes / 16, uint64_t{64} << 20);
}

/// Reads in flight may hold half of the frames that the budget can fill.
uint64_t admission_places(uint64_t memory_bytes) {
  constexpr uint64_t kOneRead = Object::kMaxRead / kExtentSize + 1;
  return std::max<uint64_t>(kOneRead, memory_bytes / kExtentSize / 2);
}

/// What the extents of all objects may take before those that nobody holds go: 16 MiB tell of 64
/// GiB.
uint64_t idle_extent_bytes(uint64_t memory_bytes) {
  return std::max<uint64_t>(memory_bytes / 64, uint64_t{16} << 20);
}

class PageStoreImpl final : public PageStore {
 public:
  /// What can fail to be made, and what that needs.
  struct Parts {
    std::unique_ptr<Counters> counters = std::make_unique<Counters>();
    std::unique_ptr<PrefetchLedger> ledger = std::make_unique<PrefetchLedger>(*counters);
    std::unique_ptr<FlightTable> flights = std::make_unique<FlightTable>();
    std::unique_ptr<MemoryTier> memory;
    std::unique_ptr<DiskTier> disk;
    std::unique_ptr<ObjectTable> objects;
    std::unique_ptr<DiskCache> cache;
  };

  PageStoreImpl(Parts parts, const PageStoreOptions& options)
      : counters_(std::move(parts.counters)),
        ledger_(std::move(parts.ledger)),
        flights_(std::move(parts.flights)),
        memory_(std::move(parts.memory)),
        disk_(std::move(parts.disk)),
        objects_(std::move(parts.objects)),
        content_hash_(options.content_hash),
        repairer_(std::make_unique<MapRepairer>(*disk_, content_hash_)),
        maps_(map_cache_bytes(options.memory_bytes), *flights_, *disk_, *repairer_),
        admission_(admission_places(options.memory_bytes)),
        memory_bytes_(options.memory_bytes),
        cache_(std::move(parts.cache)),
        prefetcher_(options.prefetch, options.memory_bytes, *ledger_),
        core_{*counters_, *flights_, *memory_, *disk_,      maps_,         admission_,
              *cache_,    verifier_, *ledger_, prefetcher_, live_objects_, extent_bytes_} {
    leases_ = cache_->start(core_, options.lent);
  }

  PageStoreImpl(const PageStoreImpl&) = delete;
  PageStoreImpl& operator=(const PageStoreImpl&) = delete;
  ~PageStoreImpl() override {
    // The threads of both use objects.
    verifier_.stop();
    drop_leases();
    cache_->stop();
    objects_->clear();
    // Reads that were cancelled leave fetches behind, which use every part until they are over, and
    // any thread, a source's too, may still be dropping the last of what an answer held.
    while (flights_->size() > 0 || !admission_.idle() || live_objects_ > 0) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    repairer_.reset();
    disk_.reset();
  }

  [[nodiscard]] ObjectRef attach(const ObjectSpec& spec) override {
    return objects_->attach(spec, core_);
  }

  [[nodiscard]] HeldObject hold(Object& object) override {
    auto& held = static_cast<ObjectImpl&>(object);
    return {held.spec_now(), held.file().duplicate_data(), held.file().duplicate_map()};
  }

  [[nodiscard]] ObjectRef attach_held(HeldObject held) override {
    const std::shared_ptr<ObjectImpl> object = objects_->attach(held.spec, core_);
    if (held.data.valid()) object->file().take(std::move(held.data), std::move(held.map));
    return object;
  }

  [[nodiscard]] ObjectRef attach_cached(const CachedSpec& spec) override {
    return cache_->attach(spec);
  }
  void pin_cached(const ObjectKey& key, bool pinned) override { cache_->pin(key, pinned); }
  void forget_cached(const ObjectKey& key) override { cache_->forget(key); }
  [[nodiscard]] std::shared_ptr<const void> take_lease(const ObjectKey& key) override {
    absl::MutexLock lock(&leases_mutex_);
    const auto at = leases_.find(key);
    return at == leases_.end() ? nullptr : std::exchange(at->second, nullptr);
  }
  void drop_leases() override {
    DiskCache::Leases dropped;
    absl::MutexLock lock(&leases_mutex_);
    dropped.swap(leases_);
  }
  void wait_cached() override { cache_->wait_idle(); }

  [[nodiscard]] absl::StatusOr<std::unique_ptr<ObjectWriter>> create(Retention retention,
                                                                     uint64_t size_hint) override {
    BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<ObjectWriter> writer,
                               ObjectWriterImpl::create(*disk_, retention, size_hint));
    return writer;
  }

  [[nodiscard]] absl::Status sync(absl::Span<ObjectWriter* const> sealed) override {
    if (sealed.size() > 1) return disk_->sync_all();
    for (ObjectWriter* writer : sealed) {
      BLOBCACHE_RETURN_IF_ERROR(static_cast<ObjectWriterImpl*>(writer)->sync());
    }
    return absl::OkStatus();
  }

  [[nodiscard]] bool is_held(const ObjectKey& key, const Incarnation& incarnation) override {
    return objects_->is_held(key, incarnation);
  }

  void detach(const ObjectKey& key, const Incarnation& incarnation) override {
    const std::shared_ptr<ObjectImpl> object = objects_->take(key, incarnation);
    // A reader may hold the object and not have read yet: its files are opened before they lose
    // their names.
    if (object != nullptr && object.use_count() > 1) {
      if (const absl::Status opened = object->file().keep_open(); !opened.ok()) {
        spdlog::warn("removing an object that is in use: {}", base::message(opened));
      }
    }
  }

  absl::Status remove(const ObjectKey& key, const Incarnation& incarnation, Retention retention,
                      uint64_t disk_bytes) override {
    detach(key, incarnation);
    const absl::Status unlinked = disk_->unlink(key, incarnation);
    if (unlinked.ok()) {
      disk_->budget().release(disk_bytes, retention);
      if (retention == Retention::kCached) {
        counters_->add(Counters::kDiskEvictedBytes, disk_bytes);
      }
    }
    return unlinked;
  }

  [[nodiscard]] Descriptions& descriptions() override { return disk_->descriptions(); }

  void change_retention(Retention from, Retention to, uint64_t disk_bytes) override {
    disk_->budget().change(from, to, disk_bytes);
  }

  void restore_usage(uint64_t kept_bytes, uint64_t cached_bytes) override {
    disk_->budget().restore(kept_bytes, cached_bytes);
  }

  absl::Status for_each_leftover(
      const std::function<bool(const ObjectKey&, const Incarnation&)>& known,
      const std::function<absl::Status(const Leftover&)>& visit) override {
    return page::for_each_leftover(*disk_, known, visit);
  }

  [[nodiscard]] absl::StatusOr<bool> remove_leftover(const Leftover& leftover) override {
    const bool in_use = leftover.kind == Leftover::Kind::kOrphan &&
                        objects_->find(leftover.key, leftover.incarnation) != nullptr;
    if (in_use) return false;
    return page::remove_leftover(*disk_, leftover);
  }

  [[nodiscard]] absl::StatusOr<ScrubResult> scrub(const ObjectSpec& spec,
                                                  ScrubControl& control) override {
    return ObjectScrub({core_, *objects_, *repairer_, content_hash_}, spec, control).run();
  }

  uint64_t evict_memory(Object& object) override {
    return memory_->drop(static_cast<ObjectImpl&>(object), /*dying=*/false);
  }

  void set_reclaimer(DiskReclaimer* reclaimer) override {
    disk_->budget().set_reclaimer(reclaimer);
  }

  [[nodiscard]] Stats stats() const override {
    Stats stats;
    count(stats);
    const FramePool& pool = memory_->pool();
    stats.memory_budget_bytes = memory_bytes_;
    stats.memory_resident_bytes = pool.resident_pages() << kPageShift;
    stats.memory_pinned_frames = memory_->pinned_frames();
    const DiskBudget::Usage disk = disk_->budget().usage();
    stats.disk_budget_bytes = disk.budget;
    stats.disk_used_bytes = disk.used;
    stats.disk_kept_bytes = disk.kept;
    stats.disk_filled_bytes = disk.filled;
    stats.disk_filled_extents = cache_->extents();
    stats.disk_free_bytes = disk.free;
    stats.disk_reserve_bytes = disk.reserve;
    stats.disk_errors = counters_->sum(Counters::kDiskErrors);
    stats.disk_out = disk_->health().is_out();
    stats.flights = flights_->size();
    stats.open_objects = objects_->size();
    return stats;
  }

 private:
  void count(Stats& stats) const {
    stats.memory_hit_pages = counters_->sum(Counters::kMemoryHitPages);
    stats.disk_hit_pages = counters_->sum(Counters::kDiskHitPages);
    stats.remote_hit_pages = counters_->sum(Counters::kRemoteHitPages);
    stats.zero_pages = counters_->sum(Counters::kZeroPages);
    stats.shared_flight_pages = counters_->sum(Counters::kSharedFlightPages);
    stats.reads = counters_->sum(Counters::kReads);
    stats.read_errors = counters_->sum(Counters::kReadErrors);
    stats.disk_read_bytes = counters_->sum(Counters::kDiskReadBytes);
    stats.disk_written_bytes = counters_->sum(Counters::kDiskWrittenBytes);
    stats.remote_fetched_bytes = counters_->sum(Counters::kRemoteFetchedBytes);
    stats.checksum_errors = counters_->sum(Counters::kChecksumErrors);
    stats.source_checksum_errors = counters_->sum(Counters::kSourceChecksumErrors);
    stats.map_errors = counters_->sum(Counters::kMapErrors);
    stats.maps_rebuilt = counters_->sum(Counters::kMapsRebuilt);
    stats.syncs = counters_->sum(Counters::kSyncs);
    stats.memory_evicted_extents = counters_->sum(Counters::kMemoryEvictedExtents);
    stats.fill_bytes = counters_->sum(Counters::kFilledBytes);
    stats.fill_dropped_bytes = counters_->sum(Counters::kFillDroppedBytes);
    stats.prefetched_pages = counters_->sum(Counters::kPrefetchedPages);
    stats.prefetch_used_pages = counters_->sum(Counters::kPrefetchUsedPages);
    stats.prefetch_late_pages = counters_->sum(Counters::kPrefetchLatePages);
    stats.prefetch_evicted_pages = counters_->sum(Counters::kPrefetchEvictedPages);
    stats.prefetch_failed_pages = counters_->sum(Counters::kPrefetchFailedPages);
    stats.prefetch_unread_bytes = ledger_->unread_bytes();
    stats.reads_under_way = admission_.under_way();
    stats.disk_evicted_bytes = counters_->sum(Counters::kDiskEvictedBytes);
  }

  const std::unique_ptr<Counters> counters_;
  const std::unique_ptr<PrefetchLedger> ledger_;
  const std::unique_ptr<FlightTable> flights_;
  const std::unique_ptr<MemoryTier> memory_;
  std::unique_ptr<DiskTier> disk_;
  const std::unique_ptr<ObjectTable> objects_;
  const ContentHashFactory content_hash_;
  std::unique_ptr<MapRepairer> repairer_;
  MapLoader maps_;
  Admission admission_;
  const uint64_t memory_bytes_;
  std::atomic<uint64_t> live_objects_{0};
  std::atomic<uint64_t> extent_bytes_{0};
  const std::unique_ptr<DiskCache> cache_;
  FileVerifier verifier_{core_};
  Prefetcher prefetcher_;
  absl::Mutex leases_mutex_;
  DiskCache::Leases leases_ ABSL_GUARDED_BY(leases_mutex_);
  StoreCore core_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PageStore>> PageStore::open(const PageStoreOptions& options) {
  if (options.memory_bytes < kMinMemory) {
    return absl::InvalidArgumentError(fmt::format("memory of {} is too little; at least {}",
                                                  base::format_size(options.memory_bytes),
                                                  base::format_size(kMinMemory)));
  }
  PageStoreImpl::Parts parts;
  const uint64_t frames = options.memory_bytes - map_cache_bytes(options.memory_bytes);
  BLOBCACHE_ASSIGN_OR_RETURN(
      parts.memory, MemoryTier::create(frames, options.eviction, options.prefetch.stale_after,
                                       *parts.flights, *parts.ledger, *parts.counters));
  BLOBCACHE_ASSIGN_OR_RETURN(parts.disk, DiskTier::open(options, *parts.counters));
  parts.objects = std::make_unique<ObjectTable>(idle_extent_bytes(options.memory_bytes));
  BLOBCACHE_ASSIGN_OR_RETURN(parts.cache, DiskCache::create(options, *parts.disk, *parts.objects));
  return std::make_unique<PageStoreImpl>(std::move(parts), options);
}

}  // namespace blobcache::page
