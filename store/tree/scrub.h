#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/page/object_key.h"
#include "store/page/scrub.h"

namespace blobcache::tree {

/// A blob or a volume in which a scrub found damage. Value type.
struct DamagedObject {
  /// So many names are told of one blob.
  static constexpr size_t kMaxNames = 16;

  std::optional<page::ObjectKey> key;  ///< none: a volume
  uint64_t size_bytes = 0;
  /// Of a blob "files/a/b", those bound first going first; may be none. Of a volume "volumes/a".
  std::vector<std::string> names;
  bool more_names = false;
  page::ScrubResult result;
};

/// Who has a scrub done: sets its pace and learns what comes of it. Called on the thread that
/// scrubs.
class ScrubWatcher : public page::ScrubControl {
 public:
  /// How much is to be looked at, as is known now: blobs and volumes, and their bytes on the disk.
  virtual void on_begin(uint64_t objects, uint64_t disk_bytes) = 0;
  /// A blob or a volume has been looked at; damaged ones too, and volumes that cannot be opened.
  virtual void on_checked(const page::ScrubResult& result) = 0;
  virtual void on_damage(const DamagedObject& object) = 0;
};

}  // namespace blobcache::tree
