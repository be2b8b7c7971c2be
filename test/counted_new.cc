#include "test/counted_new.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

thread_local uint64_t allocations = 0;

void* counted(void* memory) {
  ++allocations;
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// The array forms, and those that do not throw, are made of these.
void* operator new(size_t size) { return counted(std::malloc(size)); }
void* operator new(size_t size, std::align_val_t alignment) {
  const auto unit = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(unit, (size + unit - 1) / unit * unit));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace blobcache::test {

uint64_t allocations_here() { return allocations; }

}  // namespace blobcache::test
