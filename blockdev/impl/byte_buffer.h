#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace blobcache::blockdev {

class BufferPool;

/// Frees a buffer's memory, or gives it to the pool that it came from.
struct BufferRelease {
  std::shared_ptr<BufferPool> pool;
  size_t capacity = 0;
  void operator()(std::byte* bytes) const;
};

/// Bytes of our own on their way out. Not cleared when it is made. Moves, never copies.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  explicit ByteBuffer(size_t size) : bytes_(new std::byte[size]), size_(size) {}
  [[nodiscard]] static ByteBuffer copy_of(absl::Span<const std::byte> bytes);

  ByteBuffer(ByteBuffer&& other) noexcept
      : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;
  ~ByteBuffer() = default;

  [[nodiscard]] std::byte* data() const { return bytes_.get(); }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] absl::Span<std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  friend BufferPool;

  using Memory = std::unique_ptr<std::byte[], BufferRelease>;

  ByteBuffer(Memory bytes, size_t size) : bytes_(std::move(bytes)), size_(size) {}

  Memory bytes_;
  size_t size_ = 0;
};

/// Memory for large buffers, used again: what the allocator has to ask the kernel for, page by
/// page, costs more than what is then done with it. Small ones are the allocator's, which is good
/// at those. Buffers may outlive their user's hold on the pool.
///
/// Thread-safe. Keeps at most kMaxFree bytes that nobody uses.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  static constexpr size_t kSmallest = size_t{32} << 10;
  static constexpr size_t kLargest = size_t{1} << 20;
  static constexpr uint64_t kMaxFree = uint64_t{16} << 20;

  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  [[nodiscard]] ByteBuffer take(size_t size);

  /// Bytes that nobody uses.
  [[nodiscard]] uint64_t free_bytes() const;

 private:
  friend BufferRelease;

  static constexpr size_t kClasses = 6;  // 32 KiB, 64 KiB, ... 1 MiB
  static_assert(kSmallest << (kClasses - 1) == kLargest);

  void give_back(std::byte* bytes, size_t capacity);

  mutable absl::Mutex mutex_;
  std::array<std::vector<std::byte*>, kClasses> free_ ABSL_GUARDED_BY(mutex_);
  uint64_t free_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::blockdev
