#include "store/volume/impl/block_cache.h"

#include "base/status.h"

namespace blobcache::volume {

BlockRef BlockCache::find(uint64_t number) {
  Shard& shard = shard_of(number);
  const absl::MutexLock lock(&shard.mutex);
  const auto at = shard.blocks.find(number);
  if (at == shard.blocks.end()) return {};
  Block& block = *at->second;
  block.users.fetch_add(1, std::memory_order_relaxed);
  if (!block.used.load(std::memory_order_relaxed)) block.used.store(true);
  return BlockRef(&block);
}

absl::StatusOr<BlockRef> BlockCache::get(uint64_t number) {
  if (BlockRef block = find(number)) return block;
  BlockRef block;
  {
    // While one thread reads the block from the file no other brings it, changes it and writes it.
    Shard& shard = shard_of(number);
    const absl::MutexLock loading(&shard.loading);
    block = find(number);
    if (block) return block;
    BLOBCACHE_ASSIGN_OR_RETURN(const StoredBlock stored, load_(number));
    {
      const absl::MutexLock lock(&shard.mutex);
      shard.blocks.emplace(number, std::make_unique<Block>(number, stored));
      size_.fetch_add(1);
    }
    block = find(number);
  }
  make_room();
  return block;
}

absl::Status BlockCache::peek(uint64_t number, const std::function<void(const Block&)>& visit) {
  BlockRef block = find(number);
  if (!block) {
    Shard& shard = shard_of(number);
    const absl::MutexLock loading(&shard.loading);
    block = find(number);
    if (!block) {
      BLOBCACHE_ASSIGN_OR_RETURN(const StoredBlock stored, load_(number));
      visit(Block(number, stored));
      return absl::OkStatus();
    }
  }
  visit(*block);
  return absl::OkStatus();
}

std::vector<BlockRef> BlockCache::all() {
  std::vector<BlockRef> found;
  for (Shard& shard : shards_) {
    const absl::MutexLock lock(&shard.mutex);
    for (const auto& [number, block] : shard.blocks) {
      block->users.fetch_add(1, std::memory_order_relaxed);
      found.emplace_back(block.get());
    }
  }
  return found;
}

bool BlockCache::is_crowded() {
  if (size() <= most_) return false;
  make_room();
  return size() > most_;
}

void BlockCache::make_room() {
  // Two rounds: the first one takes the marks of use away, as a clock's hand does.
  for (size_t step = 0; step < 2 * kShards && size() > most_; ++step) {
    sweep(shards_[hand_.fetch_add(1) % kShards]);
  }
}

void BlockCache::sweep(Shard& shard) {
  const absl::MutexLock lock(&shard.mutex);
  for (auto at = shard.blocks.begin(); at != shard.blocks.end() && size() > most_;) {
    Block& block = *at->second;
    // Who had the block before has let it go with all that he wrote; nobody comes to it now.
    const bool idle = block.users.load(std::memory_order_acquire) == 0;
    if (!idle || block.dirty.load() || block.has_intent || block.used.exchange(false)) {
      ++at;
      continue;
    }
    shard.blocks.erase(at++);
    size_.fetch_sub(1);
  }
}

}  // namespace blobcache::volume
