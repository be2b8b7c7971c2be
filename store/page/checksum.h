#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "store/page/object_key.h"

namespace blobcache::page {

/// CRC32C (Castagnoli; RFC 3720 B.4) of `bytes`, in the usual form: initial value and final XOR all
/// ones. `crc` continues an earlier one. This is what travels on the wire. Thread-safe; about 10
/// GB/s a core.
[[nodiscard]] uint32_t crc32c(absl::Span<const std::byte> bytes, uint32_t crc = 0);

/// What is stored for a page: its CRC32C, continued over the object's incarnation and the page's
/// number. So an old page, or a page of another place or object, never passes for this one.
[[nodiscard]] uint32_t page_checksum(uint32_t page_crc32c, const Incarnation& incarnation,
                                     uint64_t page_number);

/// Whether every byte is zero.
[[nodiscard]] bool is_zero(absl::Span<const std::byte> bytes);

}  // namespace blobcache::page
