#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/scrub.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

/// Reads all of a volume that is its own and keeps account of what cannot be read; what it has of
/// its base is looked at with the blobs. Memory: a megabyte.
///
/// The volume goes on being written to meanwhile. A read compares a page under the lock that its
/// writers take, so what is read is whole or damaged, never torn; and what fails is looked at once
/// more before it is told of: by then it may be trimmed, and the base's again, whose errors are not
/// the volume's.
///
/// One thread, none of the volume's workers. What it is given outlives it.
class VolumeScrub {
 public:
  VolumeScrub(volume::Volume& volume, page::ScrubControl& control);

  /// Once: how the volume was found, with its size at the beginning. CANCELLED when `control` ends
  /// it; damage is no error. Pages that are not the volume's own are not counted.
  [[nodiscard]] absl::StatusOr<page::ScrubResult> run();

 private:
  /// Whole blocks of the map, or up to the volume's end.
  [[nodiscard]] absl::Status check_stretch(uint64_t begin, uint64_t end);
  /// A stretch of own pages.
  [[nodiscard]] absl::Status check_data(uint64_t begin, uint64_t end);
  [[nodiscard]] absl::Status check_pages(uint64_t begin, uint64_t end);
  [[nodiscard]] absl::Status read(uint64_t begin, uint64_t end);
  [[nodiscard]] bool is_own(uint64_t begin, uint64_t end);
  void lose(uint64_t begin, uint64_t end, std::string_view why);

  volume::Volume& volume_;
  page::ScrubControl& control_;
  std::vector<std::byte> buffer_;
  page::ScrubResult result_;
};

}  // namespace blobcache::tree
