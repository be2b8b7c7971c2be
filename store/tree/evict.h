#pragma once

#include <cstdint>
#include <string>

namespace blobcache::tree {

/// Which tiers are to drop a blob.
enum class EvictFrom : uint8_t {
  kMemory,  ///< its pages leave L0; the next reader brings them again
  kDisk,    ///< it leaves the store, which has no other copy; only a cached one may
  kAll,     ///< both, the latter where it may
};

/// What came of an eviction. Value type.
struct Evicted {
  uint64_t memory_pages = 0;  ///< dropped from L0; those that a reader holds at the moment stay
  uint64_t disk_bytes = 0;    ///< what the blob took of the disk, if it is gone
  bool removed = false;       ///< the blob is gone
  std::string stays;          ///< why it is not, where that is no error (kAll); else empty
};

}  // namespace blobcache::tree
