#include "store/volume/impl/checkpointer.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/journal.h"
#include "store/volume/impl/map_file.h"

namespace blobcache::volume {
namespace {

/// Blocks that are marked ahead of who writes one after the other: 30 MiB.
constexpr uint64_t kAhead = 8;
/// Records of intents that a checkpoint leaves in the journal at most.
constexpr size_t kMostKept = 1024;

}  // namespace

absl::Status Checkpointer::run(Intents intents) {
  const absl::MutexLock lock(&mutex_);
  return run_locked(intents);
}

absl::Status Checkpointer::make_room() {
  const absl::MutexLock lock(&mutex_);
  if (core_.journal.has_room(Record::Kind::kState)) return absl::OkStatus();
  return run_locked(Intents::kKeepUsed);
}

bool Checkpointer::wants_to_run() {
  return core_.journal.half_full() && !asked_.load() && !asked_.exchange(true);
}

void Checkpointer::run_in_background() {
  // A failure is told to whoever finds the journal full, and tries again.
  run(Intents::kKeepUsed).IgnoreError();
  asked_.store(false);
}

absl::Status Checkpointer::run_locked(Intents intents) {
  const Plan plan = take_images(intents);
  absl::Status status = write(plan);
  if (!status.ok()) {
    for (const Image& image : plan.images) image.block->dirty.store(true);
    return status;
  }
  for (const Image& image : plan.images) {
    image.block->copy = 1 - image.block->copy;
    image.block->stored_pages = image.data_pages;
    image.block->was_stored.store(true);
  }
  core_.checkpoint.fetch_add(1);
  core_.journal.advance(plan.start);
  core_.checkpoints.fetch_add(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

Checkpointer::Plan Checkpointer::take_images(Intents intents) {
  Plan plan;
  const absl::MutexLock lock(&marking_);
  // A length that is noted later would go with pages that are not in the images.
  core_.length.visit([&](const FileLength::Value& now) {
    plan.start = core_.journal.next();
    plan.length = now;
  });
  plan.closes = intents == Intents::kClose;
  const bool keeps = intents == Intents::kKeepUsed && !core_.is_file;
  plan.blocks = core_.cache.all();
  for (const BlockRef& block : plan.blocks) {
    const AllExtents all(*block);
    const bool changed = block->dirty.exchange(false);
    if (changed) plan.images.push_back({&*block, block->states, data_pages_of(block->states)});
    if (!block->has_intent) continue;
    if (keeps && changed && plan.kept_intents.size() < kMostKept) {
      plan.kept_intents[static_cast<uint32_t>(block->number / kBlocksPerIntent)] |=
          uint64_t{1} << block->number % kBlocksPerIntent;
    } else {
      block->has_intent = false;
      core_.intent_blocks.fetch_sub(1);
    }
  }
  return plan;
}

absl::Status Checkpointer::write(const Plan& plan) {
  BLOBCACHE_RETURN_IF_ERROR(core_.failure());
  BLOBCACHE_RETURN_IF_ERROR(core_.sync_data());
  BLOBCACHE_RETURN_IF_ERROR(core_.map.make());
  const uint64_t number = core_.checkpoint.load() + 1;
  for (const Image& image : plan.images) {
    BLOBCACHE_RETURN_IF_ERROR(
        core_.map.store(image.block->number, image.states, number, 1 - image.block->copy));
  }
  if (!plan.images.empty()) {
    absl::Status status = core_.map.sync();
    if (!status.ok()) {
      core_.fail(status);
      return status;
    }
  }
  for (const auto& [index, mask] : plan.kept_intents) {
    BLOBCACHE_RETURN_IF_ERROR(core_.journal.append({Record::Kind::kIntent, index, mask}));
  }
  if (!plan.kept_intents.empty()) BLOBCACHE_RETURN_IF_ERROR(core_.sync_journal());
  return write_header(plan);
}

absl::Status Checkpointer::write_header(const Plan& plan) {
  const absl::MutexLock lock(&core_.header_mutex);
  Header header = core_.header;
  ++header.checkpoint;
  header.journal_start = plan.start;
  if (core_.is_file) {
    header.size_bytes = plan.length.bytes;
    header.base_bytes = plan.length.base_bytes;
    header.is_stale = plan.length.is_stale ? 1 : 0;
    // Who finds it so need not doubt any page, whatever has become of the kernel since.
    if (plan.closes && core_.journal.next() == plan.start) header.boot_id = BootId();
  }
  for (const Image& image : plan.images) {
    header.data_pages += image.data_pages - image.block->stored_pages;
  }
  absl::Status status = core_.header_file.write(header);
  if (!status.ok()) {
    // Whether the checkpoint is valid now only the file knows.
    core_.fail(status);
    return status;
  }
  core_.header = header;
  return absl::OkStatus();
}

absl::Status Checkpointer::mark_intent(const BlockRef& block) {
  if (core_.cache.is_crowded()) BLOBCACHE_RETURN_IF_ERROR(run(Intents::kClear));
  if (!core_.journal.has_room(Record::Kind::kIntent)) {
    BLOBCACHE_RETURN_IF_ERROR(run(Intents::kKeepUsed));
  }
  if (core_.is_file) return mark({&block});
  std::vector<BlockRef> ahead;
  const uint64_t blocks = page::map_block_count(core_.length.bytes());
  const BlockRef before = block->number == 0 ? BlockRef() : core_.cache.find(block->number - 1);
  if (before && before->dirty.load()) {
    const uint64_t end = std::min(blocks, block->number + 1 + kAhead);
    for (uint64_t number = block->number + 1; number < end; ++number) {
      BLOBCACHE_ASSIGN_OR_RETURN(BlockRef next, core_.cache.get(number));
      ahead.push_back(std::move(next));
    }
  }
  std::vector<const BlockRef*> marked = {&block};
  for (const BlockRef& next : ahead) marked.push_back(&next);
  return mark(marked);
}

absl::Status Checkpointer::mark(const std::vector<const BlockRef*>& blocks) {
  const absl::ReaderMutexLock lock(&marking_);
  absl::btree_map<uint32_t, uint64_t> masks;
  for (const BlockRef* block : blocks) {
    const uint64_t number = (*block)->number;
    // Now, when a writer can still be told that there is no room. Most files have one block, and
    // are gone before it is stored.
    if (!(*block)->was_stored.load() && !(core_.is_file && number == 0)) {
      BLOBCACHE_RETURN_IF_ERROR(core_.map.make());
      BLOBCACHE_RETURN_IF_ERROR(core_.map.allocate(number));
    }
    masks[static_cast<uint32_t>(number / kBlocksPerIntent)] |= uint64_t{1}
                                                               << number % kBlocksPerIntent;
  }
  for (const auto& [index, mask] : masks) {
    BLOBCACHE_RETURN_IF_ERROR(core_.journal.append({Record::Kind::kIntent, index, mask}));
  }
  if (!core_.is_file) BLOBCACHE_RETURN_IF_ERROR(core_.sync_journal());
  for (const BlockRef* block : blocks) {
    const AllExtents all(**block);
    if (!(*block)->has_intent) core_.intent_blocks.fetch_add(1);
    (*block)->has_intent = true;
  }
  return absl::OkStatus();
}

}  // namespace blobcache::volume
