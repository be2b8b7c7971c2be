#include "store/page/impl/cached_extents.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "base/status.h"
#include "store/page/page_map.h"

namespace blobcache::page {
namespace {

uint64_t identity(const CachedFile& file, uint32_t extent) {
  return absl::Hash<std::pair<ObjectKey, uint32_t>>{}({file.key, extent});
}

uint32_t block_of(uint32_t extent) { return static_cast<uint32_t>(map_block_of(extent)); }

}  // namespace

absl::StatusOr<std::unique_ptr<CachedExtents>> CachedExtents::create(std::string_view eviction,
                                                                     size_t slots) {
  std::unique_ptr<CachedExtents> extents(new CachedExtents(slots));  // NOLINT: private constructor
  BLOBCACHE_ASSIGN_OR_RETURN(extents->policy_,
                             make_eviction_policy(eviction, slots, extents->uses_));
  return extents;
}

CachedFile* CachedExtents::find(const ObjectKey& key) {
  const auto at = files_.find(key);
  return at == files_.end() ? nullptr : at->second.get();
}

CachedFile& CachedExtents::add(const ObjectKey& key, const Incarnation& incarnation,
                               uint64_t size_bytes) {
  auto file = std::make_unique<CachedFile>();
  file->key = key;
  file->incarnation = incarnation;
  file->size_bytes = size_bytes;
  return *files_.insert_or_assign(key, std::move(file)).first->second;
}

void CachedExtents::remove(const CachedFile& file) { files_.erase(file.key); }

std::optional<uint32_t> CachedExtents::free_slot() {
  if (!free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (never_used_ == slots_.size()) return std::nullopt;
  return never_used_++;
}

void CachedExtents::enter(const Slot& what, uint32_t slot) {
  slots_[slot] = what;
  ++extents_;
  pages_ += what.pages;
  if (what.file->slots.empty()) ++blocks_;  // the header
  what.file->slots.emplace(what.extent, slot);
  if (++what.file->blocks[block_of(what.extent)] == 1) ++blocks_;
}

bool CachedExtents::count_pages(CachedFile& file, uint32_t extent, uint32_t pages) {
  const auto at = file.slots.find(extent);
  if (at == file.slots.end()) {
    const std::optional<uint32_t> slot = free_slot();
    if (!slot) return false;
    enter({&file, extent, pages}, *slot);
    policy_->insert(*slot, identity(file, extent));
    return true;
  }
  Slot& slot = slots_[at->second];
  // Pages that no map tells of any more are still there, until they are written over.
  const uint32_t more = std::max(pages, slot.pages) - slot.pages;
  slot.pages += more;
  pages_ += more;
  return true;
}

void CachedExtents::pin(CachedFile& file, bool pinned) {
  file.pinned = pinned;
  if (pinned) return;
  // Those that evict() met meanwhile are in no queue.
  for (const auto& [extent, slot] : file.slots) {
    policy_->erase(slot);
    policy_->restore(slot, identity(file, extent));
  }
}

void CachedExtents::use(const CachedFile& file, uint32_t extent) {
  if (const auto at = file.slots.find(extent); at != file.slots.end()) uses_.use(at->second);
}

CachedExtents::Victim CachedExtents::give_up(uint32_t slot) {
  const Slot& gone = slots_[slot];
  --extents_;
  pages_ -= gone.pages;
  gone.file->slots.erase(gone.extent);
  if (gone.file->slots.empty()) --blocks_;
  const auto block = gone.file->blocks.find(block_of(gone.extent));
  if (--block->second == 0) {
    gone.file->blocks.erase(block);
    --blocks_;
  }
  free_.push_back(slot);
  return {gone.file, gone.extent, gone.pages};
}

std::optional<CachedExtents::Victim> CachedExtents::evict() {
  while (const std::optional<uint32_t> slot = policy_->evict()) {
    // A pinned one is left out of the queues until it is unpinned: it is looked at once.
    if (!slots_[*slot].file->pinned) return give_up(*slot);
  }
  return std::nullopt;
}

std::optional<CachedExtents::Victim> CachedExtents::take(CachedFile& file, uint32_t extent) {
  const auto at = file.slots.find(extent);
  if (at == file.slots.end()) return std::nullopt;
  policy_->erase(at->second);
  return give_up(at->second);
}

void CachedExtents::restore(const Victim& victim) {
  // Its slot is free again, so there is one; whether the same does not matter.
  const uint32_t slot = *free_slot();
  enter({victim.file, victim.extent, victim.pages}, slot);
  policy_->restore(slot, identity(*victim.file, victim.extent));
}

}  // namespace blobcache::page
