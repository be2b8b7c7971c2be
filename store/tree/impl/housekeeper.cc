#include "store/tree/impl/housekeeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace blobcache::tree {

Housekeeper::Housekeeper(Catalog& catalog, page::PageStore& store, EditRunner& edits,
                         Ballast& ballast, OpenObjects& open_objects, absl::Duration unnamed_ttl,
                         Clock clock)
    : catalog_(catalog),
      store_(store),
      edits_(edits),
      ballast_(ballast),
      open_objects_(open_objects),
      unnamed_ttl_(unnamed_ttl),
      clock_(std::move(clock)) {
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
      const auto in_use = [this](const BlobRow& blob) { return open_objects_.is_open(blob.id); };
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

void Housekeeper::work() {
  remove_orphans();
  // A kill may have come between a commit and what blobs' files tell of it.
  if (!catalog_.was_closed()) edits_.describer().describe_all([this] { return stopping(); });
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
  }
}

void Housekeeper::remove_orphans() {
  const absl::StatusOr<uint64_t> removed = store_.remove_orphans(
      [this](const page::ObjectKey& key, const page::Incarnation& incarnation) {
        return is_known(key, incarnation);
      });
  if (!removed.ok()) {
    spdlog::warn("looking for files that no blob owns: {}", base::message(removed.status()));
  } else if (*removed > 0) {
    spdlog::info("removed {} files that an earlier stop had left without a blob", *removed);
  }
}

/// In doubt (an error, a stop) a file is known: what is not removed now is removed by the next
/// start.
bool Housekeeper::is_known(const page::ObjectKey& key, const page::Incarnation& incarnation) {
  if (stopping()) return true;
  const absl::StatusOr<std::optional<BlobRow>> blob = catalog_.read()->find_blob(key);
  if (!blob.ok()) return true;
  return blob->has_value() && (*blob)->incarnation == incarnation;
}

bool Housekeeper::stopping() {
  const absl::MutexLock lock(&mutex_);
  return stopping_;
}

}  // namespace blobcache::tree
