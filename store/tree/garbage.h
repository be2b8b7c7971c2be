#pragma once

#include <cstdint>
#include <string>

namespace blobcache::tree {

/// Something that nothing names. Value type.
struct Garbage {
  enum class Kind : uint8_t {
    kBlob,       ///< a blob without a name
    kOrphan,     ///< a file of an object that the catalog does not know
    kTemporary,  ///< a file of a put that is over
  };
  Kind kind = Kind::kBlob;
  std::string name;         ///< "blobs/<64 hex>", or the file's path beneath the store's folder
  uint64_t disk_bytes = 0;  ///< what it takes
};

/// What to collect. Value type.
struct GarbageOptions {
  bool dry_run = false;     ///< look, and remove nothing
  bool expire_now = false;  ///< blobs without a name or a pin whose time is not over, too
};

/// Learns what a collection finds. Called on the thread that collects.
class GarbageWatcher {
 public:
  virtual ~GarbageWatcher() = default;
  /// False: the collection is to end.
  [[nodiscard]] virtual bool wants_more() = 0;
  /// It is gone; of a dry run: it would go.
  virtual void on_garbage(const Garbage& garbage) = 0;
};

}  // namespace blobcache::tree
