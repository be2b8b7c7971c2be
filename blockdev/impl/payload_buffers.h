#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/byte_allowance.h"

namespace blobcache::blockdev {

/// Memory for what clients write, of one connection. Buffers are recycled, so that a connection
/// that keeps writing allocates nothing; each begins at a page's border.
///
/// What a connection holds is bounded by kMaxHeld, and what all of a server hold by the allowance
/// that they share, except for kReserved bytes each: so the one that waits for memory waits for its
/// own writes to end, never for another connection. One thread.
class PayloadBuffers {
 public:
  static constexpr size_t kSmallest = size_t{4} << 10;
  static constexpr size_t kLargest = size_t{256} << 10;
  static constexpr uint64_t kMaxHeld = uint64_t{16} << 20;
  static constexpr uint64_t kReserved = kLargest;

  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }  // NOLINT: from aligned_alloc
  };
  /// Moves, never copies.
  struct Buffer {
    std::unique_ptr<std::byte[], Free> bytes;
    size_t size = 0;

    [[nodiscard]] absl::Span<std::byte> span() const { return {bytes.get(), size}; }
  };

  /// `shared` must outlive this.
  explicit PayloadBuffers(ByteAllowance& shared) : shared_(shared) {}
  /// What is out is freed with this by its holder, who must be gone before or soon after.
  ~PayloadBuffers() { shared_.give_back(charged_); }
  PayloadBuffers(const PayloadBuffers&) = delete;
  PayloadBuffers& operator=(const PayloadBuffers&) = delete;

  /// At least `size` bytes (1 to kLargest). Nothing when the bounds do not admit them now, which
  /// cannot be while none is out.
  [[nodiscard]] std::optional<Buffer> take(size_t size);
  void give_back(Buffer buffer);
  /// Frees what is not in use.
  void release_free();

  /// Whether a part of what is not in use is the shared allowance's.
  [[nodiscard]] bool has_spare() const { return charged_ > 0 && free_bytes_ > 0; }
  /// Bytes of all buffers, in use or not.
  [[nodiscard]] uint64_t held() const { return held_; }

 private:
  static constexpr size_t kClasses = 7;  // 4 KiB, 8 KiB, ... 256 KiB
  static_assert(kSmallest << (kClasses - 1) == kLargest);

  [[nodiscard]] bool hold(uint64_t bytes);

  ByteAllowance& shared_;
  std::array<std::vector<Buffer>, kClasses> free_;
  uint64_t held_ = 0;
  uint64_t free_bytes_ = 0;  // of it, in free_
  uint64_t charged_ = 0;     // of it, taken from shared_
};

}  // namespace blobcache::blockdev
