#include "store/page/pinned_range.h"

#include <utility>

#include "store/page/frame_pool.h"

namespace blobcache::page {

PinnedRange::PinnedRange(PinnedRange&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
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
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  pieces_ = std::move(other.pieces_);
  frames_ = std::move(other.frames_);
  other.pieces_.clear();
  other.frames_.clear();
  return *this;
}

void PinnedRange::release() {
  for (const uint32_t frame : frames_) pool_->unpin(frame);
  frames_.clear();
  pieces_.clear();
  size_bytes_ = 0;
}

}  // namespace blobcache::page
