#include "blockdev/impl/byte_buffer.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace blobcache::blockdev {
namespace {

size_t class_of(size_t capacity) {
  return static_cast<size_t>(std::countr_zero(capacity) - std::countr_zero(BufferPool::kSmallest));
}

}  // namespace

ByteBuffer ByteBuffer::copy_of(absl::Span<const std::byte> bytes) {
  ByteBuffer copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

void BufferRelease::operator()(std::byte* bytes) const {
  if (pool != nullptr) {
    pool->give_back(bytes, capacity);
  } else {
    delete[] bytes;  // NOLINT: what unique_ptr calls
  }
}

BufferPool::~BufferPool() {
  for (const std::vector<std::byte*>& buffers : free_) {
    for (const std::byte* bytes : buffers) delete[] bytes;  // NOLINT: from take()
  }
}

ByteBuffer BufferPool::take(size_t size) {
  if (size < kSmallest || size > kLargest) return ByteBuffer(size);
  const size_t capacity = std::bit_ceil(size);
  std::byte* bytes = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    std::vector<std::byte*>& free = free_.at(class_of(capacity));
    if (!free.empty()) {
      bytes = free.back();
      free.pop_back();
      free_bytes_ -= capacity;
    }
  }
  if (bytes == nullptr) bytes = new std::byte[capacity];  // NOLINT: Memory's from here on
  return {ByteBuffer::Memory(bytes, {shared_from_this(), capacity}), size};
}

void BufferPool::give_back(std::byte* bytes, size_t capacity) {
  {
    absl::MutexLock lock(&mutex_);
    if (free_bytes_ + capacity <= kMaxFree) {
      free_.at(class_of(capacity)).push_back(bytes);
      free_bytes_ += capacity;
      return;
    }
  }
  delete[] bytes;  // NOLINT: from take()
}

uint64_t BufferPool::free_bytes() const {
  absl::MutexLock lock(&mutex_);
  return free_bytes_;
}

}  // namespace blobcache::blockdev
