#include "store/page/ghost_queue.h"

namespace blobcache::page {

void GhostQueue::remember(uint64_t identity, size_t limit) {
  numbers_[identity] = next_;
  order_.emplace_back(identity, next_++);
  while (order_.size() > limit) {
    const auto [oldest, number] = order_.front();
    order_.pop_front();
    const auto at = numbers_.find(oldest);
    if (at != numbers_.end() && at->second == number) numbers_.erase(at);
  }
}

std::optional<uint64_t> GhostQueue::take(uint64_t identity) {
  const auto at = numbers_.find(identity);
  if (at == numbers_.end()) return std::nullopt;
  const uint64_t after = next_ - at->second - 1;
  numbers_.erase(at);
  return after;
}

}  // namespace blobcache::page
