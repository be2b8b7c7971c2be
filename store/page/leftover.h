#pragma once

#include <cstdint>
#include <filesystem>

#include "store/page/object_key.h"

namespace blobcache::page {

/// A file in the store's folders that belongs to nobody: what a crash or a failed removal left
/// there. Value type.
struct Leftover {
  enum class Kind : uint8_t {
    kOrphan,  ///< an object's file, page map or names file, of an object that the catalog does not
              ///< know
    kTemporary,  ///< of an object under writing that nobody writes any more
  };
  Kind kind = Kind::kOrphan;
  std::filesystem::path file;  ///< beneath the store's folder, e.g. "tmp/<32 hex>"
  ObjectKey key;               ///< an orphan's
  Incarnation incarnation;
  uint64_t disk_bytes = 0;  ///< what it takes of the file system
};

}  // namespace blobcache::page
