#include "store/page/pinned_range.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "store/page/frame_pool.h"
#include "store/page/geometry.h"
#include "store/page/zeros.h"

namespace blobcache::page {

PinnedRange::PinnedRange(PinnedRange&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      shard_(other.shard_),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      pieces_(std::move(other.pieces_)),
      frames_(std::move(other.frames_)) {
  other.pieces_.clear();
  other.frames_.clear();
}

PinnedRange& PinnedRange::operator=(PinnedRange&& other) noexcept {
  if (this == &other) return *this;
  release();
  pool_ = std::exchange(other.pool_, nullptr);
  shard_ = other.shard_;
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  pieces_ = std::move(other.pieces_);
  frames_ = std::move(other.frames_);
  other.pieces_.clear();
  other.frames_.clear();
  return *this;
}

PinnedRange PinnedRange::of_zeros(uint64_t length) {
  PinnedRange range;
  range.size_bytes_ = length;
  while (length > 0) {
    const uint64_t part = std::min(length, kExtentSize);
    range.pieces_.push_back({shared_zeros(), part});
    length -= part;
  }
  return range;
}

bool PinnedRange::is_zeros(const iovec& piece) { return piece.iov_base == shared_zeros(); }

void PinnedRange::take_front(PinnedRange& front) {
  front.release();
  front.pool_ = pool_;
  front.shard_ = shard_;
  const bool zeros = is_zeros(pieces_.front());
  size_t count = 0;
  while (count < pieces_.size() && is_zeros(pieces_[count]) == zeros) {
    front.size_bytes_ += pieces_[count].iov_len;
    ++count;
  }
  const auto pieces_end = pieces_.begin() + static_cast<std::ptrdiff_t>(count);
  front.pieces_.assign(pieces_.begin(), pieces_end);
  pieces_.erase(pieces_.begin(), pieces_end);
  if (!zeros) {
    // A frame a view.
    const auto frames_end = frames_.begin() + static_cast<std::ptrdiff_t>(count);
    front.frames_.assign(frames_.begin(), frames_end);
    frames_.erase(frames_.begin(), frames_end);
  }
  size_bytes_ -= front.size_bytes_;
}

void PinnedRange::release() {
  for (const uint32_t frame : frames_) pool_->unpin({frame, shard_});
  frames_.clear();
  pieces_.clear();
  size_bytes_ = 0;
}

}  // namespace blobcache::page
