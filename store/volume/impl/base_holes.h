#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "store/page/object.h"
#include "store/volume/image.h"

namespace blobcache::volume {

/// A stretch of bytes. Value type.
struct Stretch {
  uint64_t offset = 0;
  uint64_t length = 0;

  friend bool operator==(const Stretch&, const Stretch&) = default;
};

/// What a base of `base_bytes` has to be asked about for the map `runs`, which begins at `offset`:
/// from the first of its kBase runs to the end of the last, as far as the base goes. Empty when it
/// need not be asked. Pure.
[[nodiscard]] Stretch base_stretch(absl::Span<const Run> runs, uint64_t offset,
                                   uint64_t base_bytes);

/// The map `runs`, with kZero in the place of kBase where `base`, which is what the base told from
/// `asked`'s beginning on, has zeros that nothing stores. What of the base's last page is beyond
/// its end is as the page is. At most `max_runs` runs; it ends where the base's answer did, if a
/// kBase run goes on there. Pure.
[[nodiscard]] std::vector<Run> with_base_holes(absl::Span<const Run> runs, uint64_t offset,
                                               Stretch asked, absl::Span<const page::MapRun> base,
                                               size_t max_runs);

}  // namespace blobcache::volume
