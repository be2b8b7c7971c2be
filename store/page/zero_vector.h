#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace blobcache::page {

/// Memory that begins as zeros and that the kernel gives only where it is written: what a large
/// table needs of which a small part may be used. For types to which all zeros are a valid value.
template <typename T>
struct ZeroAllocator {
  using value_type = T;  // NOLINT: what allocators call it

  ZeroAllocator() = default;
  template <typename U>
  explicit ZeroAllocator(const ZeroAllocator<U>& /*other*/) {}

  [[nodiscard]] T* allocate(size_t count) {
    void* memory = std::calloc(count, sizeof(T));  // NOLINT: the point of it
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t /*count*/) { std::free(memory); }  // NOLINT: from calloc

  /// The zeros are there already; to write them would make the kernel give the memory.
  template <typename U>
  void construct(U* /*at*/) {}
  template <typename U, typename... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }

  friend bool operator==(const ZeroAllocator&, const ZeroAllocator&) { return true; }
};

/// A vector whose elements, as far as its constructor makes them, are zeros that take no memory
/// before they are written.
template <typename T>
using ZeroVector = std::vector<T, ZeroAllocator<T>>;

}  // namespace blobcache::page
