#include "store/page/page_store.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/size.h"
#include "base/status.h"
#include "store/page/impl/map_repairer.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/object_writer_impl.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// Checksum blocks are part of the L0 budget: one for 3.75 MiB of data in use.
uint64_t map_cache_bytes(uint64_t memory_bytes) {
  return std::min<uint64_t>(memory_bytes / 32, uint64_t{64} << 20);
}

/// Reads in flight may hold half of the frames that the budget can fill.
uint64_t admission_places(uint64_t memory_bytes) {
  constexpr uint64_t kOneRead = Object::kMaxRead / kExtentSize + 1;
  return std::max<uint64_t>(kOneRead, memory_bytes / kExtentSize / 2);
}

class PageStoreImpl final : public PageStore {
 public:
  PageStoreImpl(std::unique_ptr<Counters> counters, std::unique_ptr<FlightTable> flights,
                std::unique_ptr<MemoryTier> memory, std::unique_ptr<DiskTier> disk,
                const PageStoreOptions& options)
      : counters_(std::move(counters)),
        flights_(std::move(flights)),
        memory_(std::move(memory)),
        disk_(std::move(disk)),
        repairer_(std::make_unique<MapRepairer>(*disk_, options.content_hash)),
        maps_(map_cache_bytes(options.memory_bytes), *flights_, *disk_, *repairer_),
        admission_(admission_places(options.memory_bytes)),
        memory_bytes_(options.memory_bytes),
        core_{*counters_, *flights_, *memory_, *disk_, maps_, admission_} {}

  PageStoreImpl(const PageStoreImpl&) = delete;
  PageStoreImpl& operator=(const PageStoreImpl&) = delete;
  ~PageStoreImpl() override {
    {
      absl::MutexLock lock(&mutex_);
      objects_.clear();
    }
    // Reads that were cancelled leave fetches behind, which use every part until they are over.
    while (flights_->size() > 0 || !admission_.idle()) absl::SleepFor(absl::Milliseconds(1));
    // The threads may still be dropping what the last answers held; they end before the memory
    // does.
    repairer_.reset();
    disk_.reset();
  }

  [[nodiscard]] ObjectRef attach(const ObjectSpec& spec) override {
    const ObjectId id{spec.key, spec.incarnation};
    std::vector<std::shared_ptr<ObjectImpl>> dropped;  // destroyed after the lock is gone
    absl::MutexLock lock(&mutex_);
    if (const auto at = objects_.find(id); at != objects_.end()) return at->second;
    if (objects_.size() >= kMaxIdle) dropped = drop_idle();
    auto object = std::make_shared<ObjectImpl>(next_id_.fetch_add(1), spec, core_);
    objects_.emplace(id, object);
    return object;
  }

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

  absl::Status remove(const ObjectKey& key, const Incarnation& incarnation, Retention retention,
                      uint64_t disk_bytes) override {
    std::shared_ptr<ObjectImpl> object;
    {
      absl::MutexLock lock(&mutex_);
      const auto at = objects_.find(ObjectId{key, incarnation});
      if (at != objects_.end()) {
        object = std::move(at->second);
        objects_.erase(at);
      }
    }
    // A reader may hold the object and not have read yet: its files are opened before they lose
    // their names.
    if (object != nullptr && object.use_count() > 1) {
      if (const absl::Status opened = object->file().keep_open(); !opened.ok()) {
        spdlog::warn("removing an object that is in use: {}", base::message(opened));
      }
    }
    const absl::Status unlinked = disk_->unlink(key, incarnation);
    if (unlinked.ok()) {
      disk_->budget().release(disk_bytes, retention);
      if (retention == Retention::kCached) {
        counters_->add(Counters::kDiskEvictedBytes, disk_bytes);
      }
    }
    return unlinked;
  }

  absl::Status describe(const ObjectKey& key, const Incarnation& incarnation,
                        const std::string& description) override {
    return disk_->describe(key, incarnation, description);
  }

  void change_retention(Retention from, Retention to, uint64_t disk_bytes) override {
    disk_->budget().change(from, to, disk_bytes);
  }

  void restore_usage(uint64_t kept_bytes, uint64_t cached_bytes) override {
    disk_->budget().restore(kept_bytes, cached_bytes);
  }

  absl::StatusOr<uint64_t> remove_orphans(
      const std::function<bool(const ObjectKey&, const Incarnation&)>& known) override {
    return disk_->remove_orphans(known);
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
    stats.disk_free_bytes = disk.free;
    stats.disk_reserve_bytes = disk.reserve;
    stats.disk_errors = counters_->sum(Counters::kDiskErrors);
    stats.disk_out = disk_->health().is_out();
    stats.flights = flights_->size();
    absl::MutexLock lock(&mutex_);
    stats.open_objects = objects_.size();
    return stats;
  }

 private:
  struct ObjectId {
    ObjectKey key;
    Incarnation incarnation;
    friend bool operator==(const ObjectId&, const ObjectId&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const ObjectId& id) {
      return H::combine(std::move(h), id.key, id.incarnation.bytes);
    }
  };

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
    stats.map_errors = counters_->sum(Counters::kMapErrors);
    stats.maps_rebuilt = counters_->sum(Counters::kMapsRebuilt);
    stats.syncs = counters_->sum(Counters::kSyncs);
    stats.memory_evicted_extents = counters_->sum(Counters::kMemoryEvictedExtents);
    stats.disk_evicted_bytes = counters_->sum(Counters::kDiskEvictedBytes);
  }

  /// Takes a quarter of the objects that nobody holds out of the table, so that what they take
  /// stays bounded; those first that have nothing in memory. When everybody is held the table
  /// grows: the doors bound how many they hold.
  [[nodiscard]] std::vector<std::shared_ptr<ObjectImpl>> drop_idle()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::shared_ptr<ObjectImpl>> dropped;
    for (const bool also_warm : {false, true}) {
      for (auto at = objects_.begin(); at != objects_.end();) {
        if (dropped.size() >= kMaxIdle / 4) return dropped;
        const auto here = at++;
        if (here->second.use_count() > 1 || (here->second->frames() > 0 && !also_warm)) continue;
        dropped.push_back(std::move(here->second));
        objects_.erase(here);
      }
    }
    return dropped;
  }

  /// About half a kilobyte each.
  static constexpr size_t kMaxIdle = 32768;

  const std::unique_ptr<Counters> counters_;
  const std::unique_ptr<FlightTable> flights_;
  const std::unique_ptr<MemoryTier> memory_;
  std::unique_ptr<DiskTier> disk_;
  std::unique_ptr<MapRepairer> repairer_;
  MapLoader maps_;
  Admission admission_;
  const uint64_t memory_bytes_;
  StoreCore core_;
  std::atomic<uint64_t> next_id_{1};
  mutable absl::Mutex mutex_;  ///< never held while calling out
  absl::flat_hash_map<ObjectId, std::shared_ptr<ObjectImpl>> objects_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<PageStore>> PageStore::open(const PageStoreOptions& options) {
  if (options.memory_bytes < kMinMemory) {
    return absl::InvalidArgumentError(fmt::format("memory of {} is too little; at least {}",
                                                  base::format_size(options.memory_bytes),
                                                  base::format_size(kMinMemory)));
  }
  auto counters = std::make_unique<Counters>();
  auto flights = std::make_unique<FlightTable>();
  const uint64_t frames = options.memory_bytes - map_cache_bytes(options.memory_bytes);
  BLOBCACHE_ASSIGN_OR_RETURN(auto memory,
                             MemoryTier::create(frames, options.eviction, *flights, *counters));
  BLOBCACHE_ASSIGN_OR_RETURN(auto disk, DiskTier::open(options, *counters));
  return std::make_unique<PageStoreImpl>(std::move(counters), std::move(flights), std::move(memory),
                                         std::move(disk), options);
}

}  // namespace blobcache::page
