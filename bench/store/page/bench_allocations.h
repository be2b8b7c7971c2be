#pragma once

#include <cstdint>

namespace blobcache::page {

/// Bytes that this program has asked operator new for, so far: measured, not claimed.
[[nodiscard]] uint64_t allocated_bytes();

/// Bytes of memory that this program has from the kernel now (its resident set).
[[nodiscard]] uint64_t resident_bytes();

}  // namespace blobcache::page
