#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/page/geometry.h"
#include "store/page/object_key.h"
#include "store/page/page_map.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// The stored checksum of a whole page of a volume.
[[nodiscard]] uint32_t own_checksum(const page::Incarnation& incarnation, uint64_t page,
                                    const std::byte* bytes);

/// DATA_LOSS when the bytes of page `page` are not what has the checksum.
[[nodiscard]] absl::Status check_own_page(const page::Incarnation& incarnation, uint64_t page,
                                          absl::Span<const std::byte> bytes, uint32_t checksum);

/// Takes the checksums of an extent's `pages` from what the file has. Those that cannot be read
/// keep the ones that they have. The extent is locked, or nobody else has the volume yet.
[[nodiscard]] absl::Status recheck_pages(VolumeCore& core, uint64_t extent, page::PageMask pages,
                                         page::MapBlock& states);

}  // namespace blobcache::volume
