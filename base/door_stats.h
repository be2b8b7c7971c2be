#pragma once

#include <cstdint>

namespace blobcache::base {

/// What a door has done; a snapshot. Counters only grow, `open` is a gauge. Value type.
struct DoorStats {
  uint64_t requests = 0;
  uint64_t bytes_out = 0;
  uint64_t bytes_in = 0;
  uint64_t errors = 0;          ///< requests answered with an error
  uint64_t open = 0;            ///< connections, open files or streams now
  uint64_t passed_through = 0;  ///< opens of files that the kernel reads by itself
};

}  // namespace blobcache::base
