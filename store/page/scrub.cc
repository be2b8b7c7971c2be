#include "store/page/scrub.h"

namespace blobcache::page {

void RangeList::add(const ByteRange& range) {
  if (range.length == 0) return;
  if (!ranges_.empty() && ranges_.back().offset + ranges_.back().length == range.offset) {
    ranges_.back().length += range.length;
    return;
  }
  if (ranges_.size() == kMaxRanges) {
    truncated_ = true;
    return;
  }
  ranges_.push_back(range);
}

void ScrubResult::add_reason(std::string_view why) {
  if (reason.find(why) != std::string::npos) return;
  if (!reason.empty()) reason += "; ";
  reason += why;
}

}  // namespace blobcache::page
