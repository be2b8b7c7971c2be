#pragma once

#include <cstddef>

namespace blobcache::page {

/// One extent (kExtentSize bytes) of zeros that is nobody's frame and takes no memory: what reads
/// of zero pages see. Read-only; the same address for as long as the process lives. Thread-safe.
[[nodiscard]] std::byte* shared_zeros();

}  // namespace blobcache::page
