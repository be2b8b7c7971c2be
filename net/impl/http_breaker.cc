#include "net/impl/http_breaker.h"

#include <algorithm>
#include <limits>

namespace blobcache::net {

bool HttpBreaker::failed(absl::Time now) {
  if (failures_ == 0) first_failure_ = now;
  if (failures_ < std::numeric_limits<uint32_t>::max()) ++failures_;
  if (open_ || failures_ < kFailures || now - first_failure_ < after_) return false;
  open_ = true;
  pause_ = kFirstProbe;
  next_probe_ = now + pause_;
  return true;
}

bool HttpBreaker::succeeded() {
  const bool was_open = open_;
  open_ = false;
  failures_ = 0;
  return was_open;
}

bool HttpBreaker::take_probe(absl::Time now) {
  if (!open_ || now < next_probe_) return false;
  pause_ = std::min(pause_ * 2, kLongestPause);
  next_probe_ = now + pause_;
  return true;
}

absl::Time HttpBreaker::next_probe() const { return open_ ? next_probe_ : absl::InfiniteFuture(); }

}  // namespace blobcache::net
