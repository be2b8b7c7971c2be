#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "store/volume/impl/cut_state.h"
#include "store/volume/impl/volume_core.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// What a range inside a volume, or inside a cut of it, consists of; see Volume::map. Blocks.
[[nodiscard]] absl::StatusOr<std::vector<Run>> walk_map(VolumeCore& core, CutState* cut,
                                                        uint64_t offset, uint64_t length,
                                                        size_t max_runs);

}  // namespace blobcache::volume
