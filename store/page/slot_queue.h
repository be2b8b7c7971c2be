#pragma once

#include <cstddef>
#include <cstdint>

#include "store/page/zero_vector.h"

namespace blobcache::page {

/// A slot's neighbours in the one queue that it is in.
struct SlotLink {
  uint32_t newer = UINT32_MAX;
  uint32_t older = UINT32_MAX;
};

/// A queue of slots, threaded through links that several queues share: what eviction policies are
/// built of. Every call is O(1) and allocates nothing.
///
/// Not thread-safe. The queue does not know which slots are in it: removing one that is not there
/// is a bug of the caller's.
class SlotQueue {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  /// `links` has an entry for each slot and outlives the queue.
  explicit SlotQueue(ZeroVector<SlotLink>& links) : links_(links) {}
  SlotQueue(const SlotQueue&) = delete;
  SlotQueue& operator=(const SlotQueue&) = delete;

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] uint32_t oldest() const { return oldest_; }  ///< kNone when empty
  /// The next younger one; kNone for the youngest.
  [[nodiscard]] uint32_t newer(uint32_t slot) const { return links_[slot].newer; }

  void push(uint32_t slot) {
    links_[slot] = {.newer = kNone, .older = newest_};
    (newest_ == kNone ? oldest_ : links_[newest_].newer) = slot;
    newest_ = slot;
    ++size_;
  }

  void remove(uint32_t slot) {
    const SlotLink link = links_[slot];
    (link.newer == kNone ? newest_ : links_[link.newer].older) = link.older;
    (link.older == kNone ? oldest_ : links_[link.older].newer) = link.newer;
    --size_;
  }

 private:
  ZeroVector<SlotLink>& links_;
  uint32_t newest_ = kNone;
  uint32_t oldest_ = kNone;
  size_t size_ = 0;
};

}  // namespace blobcache::page
