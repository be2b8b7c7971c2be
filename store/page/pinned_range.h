#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace blobcache::page {

class FramePool;

/// Bytes of an object, held in RAM for as long as this lives: views into pinned frames (or of
/// zeros, for pages that are known to be zero), in the object's order, whose lengths add up to what
/// was asked. No copy was made and the bytes never
/// change. While it lives its frames cannot be evicted, so a holder lets go within a second or
/// copies the bytes out.
///
/// Moves, never copies. One thread at a time; it may be destroyed on another thread than it was
/// made on. It must not outlive the PageStore.
class PinnedRange {
 public:
  PinnedRange() = default;
  PinnedRange(PinnedRange&& other) noexcept;
  PinnedRange& operator=(PinnedRange&& other) noexcept;
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;
  ~PinnedRange() { release(); }

  /// So many bytes that are zeros: views that pin nothing.
  [[nodiscard]] static PinnedRange of_zeros(uint64_t length);

  /// The views, one an extent: at most Object::kMaxRead / kExtentSize + 1. Read-only, though iovec
  /// has no way to say so.
  [[nodiscard]] absl::Span<const iovec> pieces() const { return pieces_; }
  [[nodiscard]] uint64_t size_bytes() const { return size_bytes_; }

  /// Whether any view is of zeros that no frame holds, and whether all are. Says nothing of zeros
  /// that frames hold.
  [[nodiscard]] bool has_zeros() const { return frames_.size() < pieces_.size(); }
  [[nodiscard]] bool all_zeros() const { return frames_.empty() && !pieces_.empty(); }

  /// Takes the first views off, as many as are alike in that, into `front` (whatever that held is
  /// released). The range must not be empty.
  void take_front(PinnedRange& front);

  /// Unpins at once; pieces() is empty afterwards.
  void release();

 private:
  friend class PinnedRangeBuilder;

  [[nodiscard]] static bool is_zeros(const iovec& piece);

  FramePool* pool_ = nullptr;
  uint32_t shard_ = 0;  ///< that all the pins are in
  uint64_t size_bytes_ = 0;
  absl::InlinedVector<iovec, 2> pieces_;
  absl::InlinedVector<uint32_t, 2> frames_;
};

}  // namespace blobcache::page
