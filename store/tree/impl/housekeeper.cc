#include "store/tree/impl/housekeeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "store/tree/garbage.h"
#include "store/tree/impl/garbage_collector.h"

namespace blobcache::tree {

Housekeeper::Housekeeper(Catalog& catalog, page::PageStore& store, EditRunner& edits,
                         Ballast& ballast, const AllVolumes& volumes, Timing timing)
    : catalog_(catalog),
      store_(store),
      edits_(edits),
      ballast_(ballast),
      volumes_(volumes),
      unnamed_ttl_(timing.unnamed_ttl),
      clock_(std::move(timing.clock)) {
  store_.set_reclaimer(this);
  thread_ = std::thread([this] { work(); });
}

Housekeeper::~Housekeeper() {
  store_.set_reclaimer(nullptr);
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status Housekeeper::expire() {
  const absl::Time before = clock_() - unnamed_ttl_;
  BLOBCACHE_ASSIGN_OR_RETURN(const bool any, catalog_.read()->any_expired(before));
  if (!any) return absl::OkStatus();
  return edits_
      .run([before](CatalogWriter& catalog, Effects& effects) {
        return expire_unnamed(catalog, before, effects);
      })
      .status();
}

uint64_t Housekeeper::reclaim(uint64_t bytes) {
  uint64_t given_up = 0;
  while (given_up < bytes) {
    const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
      BLOBCACHE_RETURN_IF_ERROR(expire_unnamed(catalog, clock_() - unnamed_ttl_, effects));
      // Who opens one between this and the commit keeps its files until he closes it.
      const auto in_use = [this](const BlobRow& blob) {
        return store_.is_held(blob.key, blob.incarnation);
      };
      return reclaim_cached(catalog, bytes - given_up, kReclaimBatch, in_use, effects);
    };
    absl::StatusOr<Effects> effects;
    const absl::Status status = ballast_.with_room([&] {
      effects = edits_.run(edit);
      return effects.status();
    });
    if (!status.ok()) {
      spdlog::warn("making room on the disk: {}", base::message(status));
      return given_up;
    }
    if (effects->removed.empty()) return given_up;
    for (const BlobRow& blob : effects->removed) given_up += blob.disk_bytes;
  }
  return given_up;
}

uint64_t Housekeeper::reclaim_files(uint64_t files) {
  uint64_t given_up = 0;
  while (given_up < files && reclaim(1) > 0) ++given_up;
  return given_up;
}

void Housekeeper::work() {
  remove_orphans();
  remove_orphan_volumes();
  // A kill may have come between a commit and what blobs' files tell of it.
  Describer& describer = edits_.describer();
  // What they tell is not changed after a catalog that may know less.
  const bool look = !catalog_.was_closed() || !describer.has_looked_at_all();
  if (look && catalog_.vouch().ok()) {
    describer.tell_all([this] { return stopping(); });
  }
  // Accounts that lag behind only make a put look for expired blobs itself.
  const absl::Duration period = std::clamp(unnamed_ttl_ / 4, absl::Seconds(1), absl::Minutes(1));
  for (;;) {
    {
      const absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), period)) return;
    }
    const absl::Status status = expire();
    if (!status.ok()) spdlog::warn("looking for expired blobs: {}", base::message(status));
    ballast_.make();
    describer.try_again();
    tell_moved();
  }
}

/// As with all that is compared with the catalog: not with one that may know less than it did.
void Housekeeper::tell_moved() {
  Describer& describer = edits_.describer();
  const bool all = !describer.has_looked_at_all();
  if ((!all && !describer.any_moved()) || !catalog_.vouch().ok()) return;
  describer.tell_moved([this] { return stopping(); });
  if (all) describer.tell_all([this] { return stopping(); });
}

void Housekeeper::remove_orphans() {
  /// Counts; ends with the housekeeper.
  class Sweep final : public GarbageWatcher {
   public:
    explicit Sweep(Housekeeper& housekeeper) : housekeeper_(housekeeper) {}
    bool wants_more() override { return !housekeeper_.stopping(); }
    void on_garbage(const Garbage& /*garbage*/) override { ++removed; }
    uint64_t removed = 0;

   private:
    Housekeeper& housekeeper_;
  };
  Sweep sweep(*this);
  const absl::Status status =
      GarbageCollector(catalog_, store_, edits_, ballast_).collect_files(/*dry_run=*/false, sweep);
  if (!status.ok() && !absl::IsCancelled(status)) {
    spdlog::warn("looking for files that no blob owns: {}", base::message(status));
  }
  if (sweep.removed > 0) {
    spdlog::info("removed {} files that an earlier stop had left without a blob", sweep.removed);
  }
}

void Housekeeper::remove_orphan_volumes() {
  for (const absl::StatusOr<uint64_t>& removed :
       {volumes_.named.remove_orphans(), volumes_.of_files.remove_orphans()}) {
    if (!removed.ok()) {
      spdlog::warn("looking for volumes that are not in the catalog: {}",
                   base::message(removed.status()));
    } else if (*removed > 0) {
      spdlog::info("removed {} volumes that an earlier stop had left half made", *removed);
    }
  }
}

bool Housekeeper::stopping() {
  const absl::MutexLock lock(&mutex_);
  return stopping_;
}

}  // namespace blobcache::tree
