#include "bench/store/page/bench_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<uint64_t> total{0};

}  // namespace

void* operator new(size_t size) {
  total.fetch_add(size, std::memory_order_relaxed);
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept { std::free(memory); }

namespace blobcache::page {

uint64_t allocated_bytes() { return total.load(std::memory_order_relaxed); }

}  // namespace blobcache::page
