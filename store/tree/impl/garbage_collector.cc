#include "store/tree/impl/garbage_collector.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <vector>

#include "base/status.h"

namespace blobcache::tree {
namespace {

/// So many blobs go in one transaction.
constexpr size_t kBatch = 128;

absl::Status ended() { return absl::CancelledError("the collection was ended"); }

Garbage to_garbage(const BlobRow& row) {
  return {Garbage::Kind::kBlob, "blobs/" + row.key.hex(), row.disk_bytes};
}

Garbage to_garbage(const page::Leftover& leftover) {
  const bool orphan = leftover.kind == page::Leftover::Kind::kOrphan;
  return {orphan ? Garbage::Kind::kOrphan : Garbage::Kind::kTemporary, leftover.file.native(),
          leftover.disk_bytes};
}

}  // namespace

absl::Status GarbageCollector::collect_blobs(absl::Time before, bool dry_run,
                                             GarbageWatcher& watcher) {
  BLOBCACHE_RETURN_IF_ERROR(
      collect_blobs(page::Retention::kCached, absl::InfiniteFuture(), dry_run, watcher));
  return collect_blobs(page::Retention::kKept, before, dry_run, watcher);
}

absl::Status GarbageCollector::collect_blobs(page::Retention retention, absl::Time before,
                                             bool dry_run, GarbageWatcher& watcher) {
  for (UnnamedCursor after;;) {
    if (!watcher.wants_more()) return ended();
    std::vector<BlobRow> rows;
    if (dry_run) {
      BLOBCACHE_ASSIGN_OR_RETURN(rows,
                                 catalog_.read()->list_unnamed(retention, after, before, kBatch));
    } else {
      const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
        return forget_unnamed(catalog, retention, after, before, kBatch, effects);
      };
      BLOBCACHE_RETURN_IF_ERROR(ballast_.with_room([&]() -> absl::Status {
        BLOBCACHE_ASSIGN_OR_RETURN(Effects effects, edits_.run(edit));
        rows = std::move(effects.removed);
        return absl::OkStatus();
      }));
    }
    for (const BlobRow& row : rows) watcher.on_garbage(to_garbage(row));
    if (rows.empty()) return absl::OkStatus();
    after = {*rows.back().unnamed_since, rows.back().id};
  }
}

absl::Status GarbageCollector::collect_files(bool dry_run, GarbageWatcher& watcher) {
  absl::Status first_error;
  const auto known = [&](const page::ObjectKey& key, const page::Incarnation& incarnation) {
    return !watcher.wants_more() || is_known(key, incarnation);
  };
  const auto visit = [&](const page::Leftover& leftover) -> absl::Status {
    if (!watcher.wants_more()) return ended();
    if (leftover.kind == page::Leftover::Kind::kOrphan) {
      BLOBCACHE_RETURN_IF_ERROR(catalog_.vouch());
    }
    const absl::StatusOr<bool> goes = dry_run ? absl::StatusOr<bool>(true) : remove_file(leftover);
    if (!goes.ok()) {
      spdlog::warn("a file that no blob owns stays: {}", base::message(goes.status()));
      first_error.Update(goes.status());
    } else if (*goes) {
      watcher.on_garbage(to_garbage(leftover));
    }
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(store_.for_each_leftover(known, visit));
  return watcher.wants_more() ? first_error : ended();
}

absl::StatusOr<bool> GarbageCollector::remove_file(const page::Leftover& leftover) {
  const absl::MutexLock lock(&edits_.removal_mutex());
  const bool orphan = leftover.kind == page::Leftover::Kind::kOrphan;
  if (orphan && is_known(leftover.key, leftover.incarnation)) return false;
  return store_.remove_leftover(leftover);
}

bool GarbageCollector::is_known(const page::ObjectKey& key, const page::Incarnation& incarnation) {
  const absl::StatusOr<std::optional<BlobRow>> blob = catalog_.read()->find_blob(key);
  if (!blob.ok()) return true;
  return blob->has_value() && (*blob)->incarnation == incarnation;
}

}  // namespace blobcache::tree
