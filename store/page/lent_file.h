#pragma once

#include <memory>

#include "base/unique_fd.h"

namespace blobcache::page {

/// An object's file on disk, for who can read it without us (the kernel, for one): every byte of
/// the object at its own offset. See Object::lend_file. Movable.
struct LentFile {
  base::UniqueFd fd;
  /// For as long as it is held nothing is taken out of the file. May outlive `fd`, but not the
  /// store. Who lets go of it last may wait for a moment.
  std::shared_ptr<const void> lease;
};

}  // namespace blobcache::page
