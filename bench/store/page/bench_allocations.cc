#include "bench/store/page/bench_allocations.h"

#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
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

uint64_t resident_bytes() {
  std::FILE* statm = std::fopen("/proc/self/statm", "re");
  if (statm == nullptr) return 0;
  uint64_t all_pages = 0;
  uint64_t resident_pages = 0;
  if (std::fscanf(statm, "%" SCNu64 " %" SCNu64, &all_pages, &resident_pages) != 2) {
    resident_pages = 0;
  }
  std::fclose(statm);
  return resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace blobcache::page
