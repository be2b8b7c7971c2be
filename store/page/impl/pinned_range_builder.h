#pragma once

#include <cstddef>
#include <cstdint>

#include "store/page/frame_pool.h"
#include "store/page/pinned_range.h"
#include "store/page/zeros.h"

namespace blobcache::page {

/// Fills a PinnedRange: each piece hands over one pin that the caller holds, all in one shard, or
/// is of zeros, which need none.
class PinnedRangeBuilder {
 public:
  PinnedRangeBuilder(FramePool& pool, uint32_t shard, PinnedRange& range) : range_(range) {
    range_.release();
    range_.pool_ = &pool;
    range_.shard_ = shard;
  }

  void add(uint32_t frame, uint64_t offset_in_frame, uint64_t length) {
    range_.frames_.push_back(frame);
    range_.pieces_.push_back({range_.pool_->data(frame) + offset_in_frame, length});
    range_.size_bytes_ += length;
  }

  /// At most one extent.
  void add_zeros(uint64_t length) {
    range_.pieces_.push_back({shared_zeros(), length});
    range_.size_bytes_ += length;
  }

 private:
  PinnedRange& range_;
};

}  // namespace blobcache::page
