#include "store/volume/impl/file_cleaner.h"

#include <algorithm>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/page_map.h"
#include "store/volume/impl/page_writer.h"

namespace blobcache::volume {
namespace {

using page::kExtentShift;
using page::kExtentsPerMapBlock;
using page::PageMask;

uint64_t block_at_end(uint64_t length) { return page::map_block_of(length >> kExtentShift); }

/// The pages of an extent of which a file of `length` bytes has something; `whole`: all.
PageMask pages_beyond(uint64_t extent, uint64_t length) {
  const uint64_t begin = extent << kExtentShift;
  if (begin >= length) return ~PageMask{0};
  return ~page::pages_of_extent(extent, length);
}

/// The same, and the page in which the file ends.
PageMask pages_touched_beyond(uint64_t extent, uint64_t length) {
  const PageMask beyond = pages_beyond(extent, length);
  if (length >> kExtentShift != extent || length % page::kPageSize == 0) return beyond;
  const uint64_t last = length >> page::kPageShift;
  return beyond | page::page_mask(static_cast<uint32_t>(last % page::kPagesPerExtent), 1);
}

/// Whether a block that nobody is writing to has no page beyond `length`.
bool is_clean_now(const Block& block, uint64_t length) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (uint64_t local = 0; local < kExtentsPerMapBlock; ++local) {
    absl::Mutex& mutex = block.extents.at(local);
    if (!mutex.TryLock()) return false;
    const uint64_t extent = block.number * kExtentsPerMapBlock + local;
    const PageMask own = block.states.on_disk.at(local) & pages_touched_beyond(extent, length);
    mutex.Unlock();
    if (own != 0) return false;
  }
  return true;
}

}  // namespace

bool FileCleaner::find_clean() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  // Where there is a map file, blocks that are not in memory may tell of more.
  if (core_.map.exists() || !mutex_.TryLock()) return false;
  const FileLength::Cleaning cleaning = core_.length.begin_cleaning();
  bool is_clean = true;
  for (const BlockRef& block : core_.cache.all()) {
    if (block->number < block_at_end(cleaning.begin)) continue;
    is_clean = is_clean && is_clean_now(*block, cleaning.begin);
  }
  // A map file that was made meanwhile may have let a block go.
  is_clean = is_clean && !core_.map.exists();
  if (is_clean) core_.length.end_cleaning(cleaning);
  mutex_.Unlock();
  return is_clean;
}

absl::Status FileCleaner::run() {
  const absl::MutexLock lock(&mutex_);
  const FileLength::Cleaning cleaning = core_.length.begin_cleaning();
  if (!cleaning.is_needed) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<uint64_t> blocks,
                             blocks_from(block_at_end(cleaning.begin)));
  for (const uint64_t number : blocks) {
    BLOBCACHE_RETURN_IF_ERROR(clean_block(number, cleaning.begin));
  }
  core_.length.end_cleaning(cleaning);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> FileCleaner::blocks_from(uint64_t first) {
  // Those in memory before those of the file: one that goes from here is there.
  std::vector<uint64_t> numbers;
  for (const BlockRef& block : core_.cache.all()) {
    if (block->number >= first) numbers.push_back(block->number);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<uint64_t> stored, core_.map.stored_blocks(first));
  numbers.insert(numbers.end(), stored.begin(), stored.end());
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

absl::Status FileCleaner::clean_block(uint64_t number, uint64_t begin) {
  const uint64_t first = number * kExtentsPerMapBlock;
  // Also waits for those who write there since before the file became shorter.
  bool has_own = false;
  BLOBCACHE_RETURN_IF_ERROR(core_.cache.peek(number, [&](const Block& block) {
    for (uint64_t local = 0; local < kExtentsPerMapBlock; ++local) {
      const absl::ReaderMutexLock lock(&block.extents.at(local));
      const PageMask beyond = pages_touched_beyond(first + local, begin);
      has_own = has_own || (block.states.on_disk.at(local) & beyond) != 0;
    }
  }));
  if (!has_own) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const BlockRef block, core_.cache.get(number));
  for (uint64_t local = 0; local < kExtentsPerMapBlock; ++local) {
    if (pages_touched_beyond(first + local, begin) == 0) continue;
    BLOBCACHE_RETURN_IF_ERROR(clean_extent(block, first + local, begin));
  }
  return absl::OkStatus();
}

absl::Status FileCleaner::clean_extent(const BlockRef& block, uint64_t extent, uint64_t begin) {
  const PageMask beyond = pages_beyond(extent, begin);
  const bool has_tail = pages_touched_beyond(extent, begin) != beyond;
  PageWriter writer(core_, true);
  for (;;) {
    absl::Status why;
    Applied applied = has_tail ? writer.clear_tail(*block, begin, why) : Applied::kDone;
    if (applied == Applied::kDone) applied = writer.make_zero(*block, extent, beyond, why);
    switch (applied) {
      case Applied::kDone:
        return absl::OkStatus();
      case Applied::kNoIntent:
        BLOBCACHE_RETURN_IF_ERROR(checkpointer_.mark_intent(block));
        break;
      case Applied::kNoRoom:
        BLOBCACHE_RETURN_IF_ERROR(checkpointer_.make_room());
        break;
      case Applied::kFailed:
        return why;
      default:
        return absl::InternalError("what is zero needs nothing else");
    }
  }
}

}  // namespace blobcache::volume
