#include "store/tree/impl/edit_runner.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "base/status.h"

namespace blobcache::tree {

using page::Retention;

absl::StatusOr<Effects> EditRunner::run(Edit edit, WriteQueue::Committed committed,
                                        page::ObjectWriter* object) {
  return run(edit, committed, object, Durability::kNow);
}

absl::StatusOr<Effects> EditRunner::run(Edit edit) {
  return run(edit, [] {}, nullptr, Durability::kNow);
}

absl::StatusOr<Effects> EditRunner::run_later(Edit edit, WriteQueue::Committed committed) {
  return run(edit, committed, nullptr, Durability::kLater);
}

absl::StatusOr<Effects> EditRunner::run_later(Edit edit) {
  return run_later(edit, [] {});
}

absl::StatusOr<Effects> EditRunner::run(Edit edit, WriteQueue::Committed committed,
                                        page::ObjectWriter* object, Durability durability) {
  Effects effects;
  const auto apply = [&](CatalogWriter& catalog) {
    effects = Effects();
    return edit(catalog, effects);
  };
  // In commit order, as the accounts of a blob must have moved before the next edit gives its bytes
  // back.
  bool tells = false;
  const auto account = [&] {
    if (effects.cached_to_kept_bytes > 0) {
      store_.change_retention(Retention::kCached, Retention::kKept, effects.cached_to_kept_bytes);
    }
    if (effects.kept_to_cached_bytes > 0) {
      store_.change_retention(Retention::kKept, Retention::kCached, effects.kept_to_cached_bytes);
    }
    tells = !effects.told.empty() || !effects.moved_directories.empty();
    describer_.expect(std::move(effects.told), effects.moved_directories);
    committed();
  };
  BLOBCACHE_RETURN_IF_ERROR(catalog_.write(apply, account, object, durability));
  // Who has nothing to tell does not wait for those who have.
  if (tells) describer_.tell();
  remove_files(effects);
  if (on_gone_) {
    for (const GoneFile& file : effects.gone_files) on_gone_(file);
  }
  listeners_.notify(effects.names);
  return effects;
}

void EditRunner::remove_files(const Effects& effects) {
  if (effects.removed.empty()) return;
  {
    // Who has found one of them by its row attaches it before this or not at all. To unlink large
    // files may take seconds, which nobody has to wait for.
    const absl::MutexLock lock(&removal_mutex_);
    for (const BlobRow& blob : effects.removed) store_.detach(blob.key, blob.incarnation);
  }
  for (const BlobRow& blob : effects.removed) {
    const absl::Status status =
        store_.remove(blob.key, blob.incarnation, blob.retention, blob.disk_bytes);
    if (status.ok()) continue;
    spdlog::warn("blobs/{}: removed, but its file is still there until the next start: {}",
                 blob.key.hex(), base::message(status));
  }
}

}  // namespace blobcache::tree
