#include "store/page/impl/cache_evictor.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "store/page/impl/map_editor.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// What one round gives up.
constexpr size_t kVictims = 256;

}  // namespace

uint64_t CacheEvictor::evict(uint64_t bytes) {
  uint64_t freed = 0;
  while (freed < bytes) {
    const uint64_t before = state_.bytes();
    std::vector<CachedExtents::Victim> victims;
    {
      absl::MutexLock lock(&state_.mutex);
      while (victims.size() < kVictims && before - state_.extents->bytes() < bytes - freed) {
        const std::optional<CachedExtents::Victim> victim = state_.extents->evict();
        if (!victim) break;
        victims.push_back(*victim);
      }
    }
    give_up(victims);
    const uint64_t round = before - state_.bytes();
    state_.disk.budget().release_fill(round);
    if (round == 0) break;
    freed += round;
  }
  state_.core->counters.add(Counters::kDiskEvictedBytes, freed);
  return freed;
}

bool CacheEvictor::evict_file(const ObjectKey& key) {
  const uint64_t before = state_.bytes();
  std::vector<CachedExtents::Victim> victims;
  {
    absl::MutexLock lock(&state_.mutex);
    CachedFile* file = state_.extents->find(key);
    if (file == nullptr) return false;
    std::vector<uint32_t> extents;
    for (const auto& [extent, slot] : file->slots) extents.push_back(extent);
    for (const uint32_t extent : extents) {
      if (auto victim = state_.extents->take(*file, extent)) victims.push_back(*victim);
    }
  }
  give_up(victims);
  remove_if_empty(key);
  state_.disk.budget().release_fill(before - state_.bytes());
  return true;
}

void CacheEvictor::remove_unknown(const ObjectKey& key) {
  // Under the lock nobody can begin to use it.
  absl::MutexLock lock(&state_.mutex);
  if (state_.extents->find(key) != nullptr) return;
  if (const absl::Status removed = state_.folder.remove(key); !removed.ok()) {
    spdlog::warn("cannot remove the files of a cached object: {}", base::message(removed));
  }
}

uint64_t CacheEvictor::drop_idle_files(uint64_t files) {
  constexpr uint64_t kFilesOfAnObject = 2;
  std::vector<std::pair<int64_t, ObjectKey>> oldest;
  {
    absl::MutexLock lock(&state_.mutex);
    state_.extents->for_each_file([&](const CachedFile& file) {
      if (!file.pinned) oldest.emplace_back(file.used_ns, file.key);
    });
  }
  std::ranges::sort(oldest);
  uint64_t gone = 0;
  const uint64_t before = state_.bytes();
  for (const auto& [used, key] : oldest) {
    if (gone >= files) break;
    if (drop_file(key)) gone += kFilesOfAnObject;
  }
  const uint64_t freed = before - state_.bytes();
  state_.disk.budget().release_fill(freed);
  state_.core->counters.add(Counters::kDiskEvictedBytes, freed);
  return gone;
}

bool CacheEvictor::drop_file(const ObjectKey& key) {
  absl::MutexLock lock(&state_.mutex);
  CachedFile* file = state_.extents->find(key);
  if (file == nullptr || !state_.objects.take_idle(key, file->incarnation)) return false;
  std::vector<uint32_t> extents;
  for (const auto& [extent, slot] : file->slots) extents.push_back(extent);
  for (const uint32_t extent : extents) (void)state_.extents->take(*file, extent);
  state_.extents->remove(*file);
  if (const absl::Status removed = state_.folder.remove(key); !removed.ok()) {
    spdlog::warn("cannot remove the files of a cached object: {}", base::message(removed));
  }
  return true;
}

void CacheEvictor::give_up(const std::vector<CachedExtents::Victim>& victims) {
  struct Gone {
    std::shared_ptr<ObjectImpl> object;
    CachedExtents::Victim victim;
  };
  std::vector<Gone> gone;
  // Whose map cannot be changed goes whole, if nobody has it open: its extents could never go.
  absl::flat_hash_set<ObjectKey> stuck;
  MapEditor editor(state_.disk, state_.core->maps);
  for (const CachedExtents::Victim& victim : victims) {
    std::shared_ptr<ObjectImpl> object =
        state_.objects.attach(spec_of(*victim.file, nullptr), *state_.core);
    const absl::StatusOr<MapBlock*> block = editor.edit(object, victim.extent);
    if (block.ok() && clear(*object, victim.extent, **block)) {
      gone.push_back({std::move(object), victim});
      continue;
    }
    if (!block.ok()) stuck.insert(victim.file->key);
    restore(victim);
  }
  absl::Status status = editor.write();
  // Where a map still tells of pages, their blocks must not go: the next start would count them.
  // (A file system that wants room for the map as well gets it, and the pages are fetched again.)
  const bool maps_tell = !status.ok() && !absl::IsResourceExhausted(status);
  absl::flat_hash_set<ObjectKey> keys;
  for (Gone& one : gone) {
    const absl::StatusOr<OpenFilesRef> files = one.object->file().open();
    if (maps_tell || (!files.ok() && !absl::IsNotFound(files.status()))) {
      restore(one.victim);
      status.Update(files.status());
    } else if (files.ok()) {
      const absl::Status punched = state_.disk.punch_hole(
          (*files)->data.get(), uint64_t{one.victim.extent} << kExtentShift, kExtentSize);
      // No map tells of it any more, and its blocks are still there: it is counted, and a victim
      // again.
      if (!punched.ok()) restore(one.victim);
      status.Update(punched);
    } else if (!absl::IsNotFound(files.status())) {
      restore(one.victim);
      status.Update(files.status());
    }
    keys.insert(one.object->key());
    one.object.reset();
  }
  if (!status.ok()) {
    state_.disk.log_failure(fmt::format("evicting from disk: {}", base::message(status)));
  }
  for (const ObjectKey& key : keys) remove_if_empty(key);
  for (const ObjectKey& key : stuck) (void)drop_file(key);
}

void CacheEvictor::restore(const CachedExtents::Victim& victim) {
  absl::MutexLock lock(&state_.mutex);
  state_.extents->restore(victim);
}

bool CacheEvictor::clear(ObjectImpl& object, uint64_t index, MapBlock& block) {
  Extent& extent = object.extents().get(index);
  {
    absl::MutexLock lock(&state_.core->flights.shard({object.id(), index}).mutex);
    // A fetch that is under way may be about to read what the disk has, and so may a borrower.
    if (extent.in_flight != 0 || object.lending().is_lent()) return false;
    object.lending().forget(extent, ~PageMask{0});
    extent.on_disk.store(0, std::memory_order_relaxed);
  }
  block.on_disk.at(index % kExtentsPerMapBlock) = 0;
  return true;
}

void CacheEvictor::remove_if_empty(const ObjectKey& key) {
  absl::MutexLock lock(&state_.mutex);
  const CachedFile* file = state_.extents->find(key);
  if (file == nullptr || !file->slots.empty()) return;
  // Whoever holds it may be about to read or to fill. (Under the lock nobody can begin to.)
  if (!state_.objects.take_idle(key, file->incarnation)) return;
  if (const absl::Status removed = state_.folder.remove(key); !removed.ok()) {
    // It stays known, as an empty one that the next sweep comes by.
    spdlog::warn("cannot remove the files of a cached object: {}", base::message(removed));
    return;
  }
  state_.extents->remove(*file);
}

}  // namespace blobcache::page
