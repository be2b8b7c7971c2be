#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "store/volume/image.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

/// A write to a file volume.
struct FileWrite {
  uint64_t offset = 0;
  absl::Span<const std::byte> bytes;
  uint64_t length_before = 0;  ///< the file's, before this write was first tried
};

/// Writes again, page by page, what a disk had no room for as a whole, and as much of it as fits:
/// of a write that failed any part may have been done. Then the file's end is put back to what was
/// written, unless somebody else has made it longer meanwhile. `done` as File::write. `volume` and
/// the bytes stay until then. Thread-safe.
void write_what_fits(volume::Volume& volume, const FileWrite& write, volume::Done done);

}  // namespace blobcache::tree
