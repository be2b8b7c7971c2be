#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "store/page/geometry.h"

namespace blobcache::page {

struct FreeAligned {
  // The owner of this kind of memory is here.
  void operator()(std::byte* memory) const { std::free(memory); }  // NOLINT
};

/// Page-aligned heap memory that direct I/O can use.
using AlignedMemory = std::unique_ptr<std::byte, FreeAligned>;

/// `size_bytes` is a multiple of the page size. The content is undefined.
[[nodiscard]] inline AlignedMemory allocate_aligned(size_t size_bytes) {
  AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(kPageSize, size_bytes)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace blobcache::page
