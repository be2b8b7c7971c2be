#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "store/page/object_key.h"
#include "store/page/scrub.h"

namespace blobcache::tree {

/// A blob in which a scrub found damage. Value type.
struct DamagedBlob {
  /// So many names are told of one blob.
  static constexpr size_t kMaxNames = 16;

  page::ObjectKey key;
  uint64_t size_bytes = 0;
  std::vector<std::string> names;  ///< "files/a/b", those bound first going first; may be none
  bool more_names = false;
  page::ScrubResult result;
};

/// Who has a scrub done: sets its pace and learns what comes of it. Called on the thread that
/// scrubs.
class ScrubWatcher : public page::ScrubControl {
 public:
  /// How much is to be looked at, as the catalog has it now: blobs, and their bytes on the disk.
  virtual void on_begin(uint64_t blobs, uint64_t disk_bytes) = 0;
  /// A blob has been looked at; damaged ones too.
  virtual void on_checked(const page::ScrubResult& result) = 0;
  virtual void on_damage(const DamagedBlob& blob) = 0;
};

}  // namespace blobcache::tree
