#include "store/volume/impl/map_walk.h"

#include <algorithm>

#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/page_map.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/page_reader.h"
#include "store/volume/impl/run_list.h"

namespace blobcache::volume {
namespace {

using page::kExtentShift;
using page::kExtentSize;
using page::kPageSize;

constexpr uint64_t kMostBytes = uint64_t{16} << 30;
constexpr uint64_t kBlockBytes = page::kExtentsPerMapBlock * kExtentSize;

Run::Kind kind_of(const ExtentView& view, uint32_t page) {
  const page::PageMask bit = page::page_mask(page, 1);
  if ((view.data & bit) != 0) return Run::Kind::kData;
  return (view.base & bit) != 0 ? Run::Kind::kBase : Run::Kind::kZero;
}

/// The bytes [begin, end) of one extent.
bool add_extent(const ExtentView& view, uint64_t begin, uint64_t end, RunList& runs) {
  while (begin < end) {
    const uint64_t stop = std::min(end, (begin / kPageSize + 1) * kPageSize);
    const auto page = static_cast<uint32_t>(begin / kPageSize % page::kPagesPerExtent);
    if (!runs.add(kind_of(view, page), stop - begin)) return false;
    begin = stop;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<Run>> walk_map(VolumeCore& core, CutState* cut, uint64_t offset,
                                          uint64_t length, size_t max_runs) {
  RunList runs(max_runs);
  const uint64_t end = offset + std::min(length, kMostBytes);
  bool goes_on = true;
  while (offset < end && goes_on) {
    const uint64_t stop = std::min(end, (offset / kBlockBytes + 1) * kBlockBytes);
    BLOBCACHE_RETURN_IF_ERROR(core.cache.peek(offset / kBlockBytes, [&](const Block& block) {
      while (offset < stop && goes_on) {
        const uint64_t extent = offset >> kExtentShift;
        const uint64_t extent_end = offset + length_in_extent(offset, stop - offset);
        const absl::ReaderMutexLock lock(&block.extents.at(extent % page::kExtentsPerMapBlock));
        goes_on = add_extent(view_of(core, block, extent, cut), offset, extent_end, runs);
        offset = extent_end;
      }
    }));
  }
  return runs.take();
}

}  // namespace blobcache::volume
