#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/map_loader.h"
#include "store/page/impl/object_file.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Changes the page maps of cached objects: gathers what changes, then writes each block once. For
/// the disk cache's thread, which alone changes them, and never on a thread of the ring.
class MapEditor {
 public:
  MapEditor(DiskTier& disk, MapLoader& maps) : disk_(disk), maps_(maps) {}

  /// The map block of `extent`, to be changed until write(). Waits for the disk when it is not at
  /// hand, and tells the block's extents what it says.
  [[nodiscard]] absl::StatusOr<MapBlock*> edit(const std::shared_ptr<ObjectImpl>& object,
                                               uint64_t extent);

  /// Makes the changes what MapLoader brings and writes them to the files; a block that tells of no
  /// page on disk takes none itself. Waits for the disk. After an error some may not be in their
  /// files; readers know all of them.
  [[nodiscard]] absl::Status write();

 private:
  struct Edited {
    std::shared_ptr<ObjectImpl> object;
    uint64_t number = 0;
    std::shared_ptr<MapBlock> block;
    AlignedMemory bytes;
    OpenFilesRef files;
    int result = 0;
  };

  DiskTier& disk_;
  MapLoader& maps_;
  std::deque<Edited> edited_;
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Edited*> index_;  ///< object, block number
};

}  // namespace blobcache::page
