#include "blockdev/impl/block_status.h"

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {

uint32_t status_flags(MetaContext context, page::Place place) {
  if (context == MetaContext::kAllocation) {
    return place == page::Place::kZero ? nbd::kStateHole | nbd::kStateZero : 0;
  }
  switch (place) {
    case page::Place::kMemory:
      return 0;
    case page::Place::kDisk:
      return 1;
    case page::Place::kRemote:
      return 2;
    case page::Place::kZero:
      return 3;
    case page::Place::kLost:
      break;
  }
  return 4;
}

std::vector<nbd::StatusRun> status_runs(MetaContext context, absl::Span<const page::MapRun> runs,
                                        bool one) {
  std::vector<nbd::StatusRun> told;
  for (const page::MapRun& run : runs) {
    const uint32_t flags = status_flags(context, run.place);
    if (!told.empty() && told.back().flags == flags) {
      told.back().length += run.length;
      continue;
    }
    if (one && !told.empty()) break;
    told.push_back({run.length, flags});
  }
  return told;
}

}  // namespace blobcache::blockdev
