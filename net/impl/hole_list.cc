#include "net/impl/hole_list.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace blobcache::net {

uint64_t HoleList::epoch() const {
  const absl::MutexLock lock(&mutex_);
  return epoch_;
}

void HoleList::learn(uint64_t epoch, uint64_t offset, const std::vector<Run>& runs) {
  const absl::MutexLock lock(&mutex_);
  if (epoch != epoch_) return;
  if (stretches_.size() + runs.size() > max_runs_) stretches_.clear();
  uint64_t end = offset;
  for (const Run& run : runs) end += run.length;
  cut_out(offset, end);
  auto last = stretches_.lower_bound(offset);
  last = last == stretches_.begin() ? stretches_.end() : std::prev(last);
  for (const Run& run : runs) {
    if (stretches_.size() >= max_runs_) break;
    if (last != stretches_.end() && last->second.end == offset && last->second.zero == run.zero) {
      last->second.end = offset + run.length;
    } else {
      last = stretches_.emplace(offset, Stretch{offset + run.length, run.zero}).first;
    }
    offset += run.length;
  }
}

void HoleList::forget(uint64_t offset, uint64_t length) {
  const absl::MutexLock lock(&mutex_);
  ++epoch_;
  cut_out(offset, offset + length);
}

void HoleList::cut_out(uint64_t begin, uint64_t end) {
  auto it = stretches_.lower_bound(begin);
  if (it != stretches_.begin()) {
    const auto before = std::prev(it);
    const Stretch whole = before->second;
    if (whole.end > begin) {
      before->second.end = begin;
      if (whole.end > end) stretches_.emplace(end, whole);
    }
  }
  while (it != stretches_.end() && it->first < end) {
    const Stretch whole = it->second;
    it = stretches_.erase(it);
    if (whole.end > end) {
      stretches_.emplace(end, whole);
      break;
    }
  }
}

std::optional<HoleList::Run> HoleList::at(uint64_t offset, uint64_t length) const {
  const absl::MutexLock lock(&mutex_);
  auto it = stretches_.upper_bound(offset);
  if (it == stretches_.begin()) return std::nullopt;
  it = std::prev(it);
  if (it->second.end <= offset) return std::nullopt;
  return Run{std::min(it->second.end - offset, length), it->second.zero};
}

size_t HoleList::runs() const {
  const absl::MutexLock lock(&mutex_);
  return stretches_.size();
}

}  // namespace blobcache::net
