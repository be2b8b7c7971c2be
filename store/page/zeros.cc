#include "store/page/zeros.h"

#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <cstdlib>

#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

/// Never written, so that every page of it stays the kernel's one zero page.
std::byte* map_zeros() {
  void* memory =
      ::mmap(nullptr, kExtentSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    spdlog::critical("cannot reserve {} bytes of address space for zeros", kExtentSize);
    std::abort();
  }
  ::madvise(memory, kExtentSize, MADV_DONTDUMP);
  return static_cast<std::byte*>(memory);
}

}  // namespace

std::byte* shared_zeros() {
  static std::byte* const zeros = map_zeros();
  return zeros;
}

}  // namespace blobcache::page
