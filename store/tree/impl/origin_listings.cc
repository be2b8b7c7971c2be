#include "store/tree/impl/origin_listings.h"

#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::tree {

absl::StatusOr<std::vector<OriginListing::Numbered>> OriginListings::list(NodeId directory,
                                                                          uint64_t after,
                                                                          size_t limit, Ask ask) {
  for (;;) {
    std::optional<std::vector<OriginEntry>> fresh;
    if (after == 0 || !knows(directory)) {
      BLOBCACHE_ASSIGN_OR_RETURN(fresh, ask());
    }
    const absl::MutexLock lock(&mutex_);
    if (fresh) {
      update(directory, *std::move(fresh));
    } else if (!listings_.contains(directory)) {
      continue;  // it went in between
    }
    const absl::Span<const OriginListing::Numbered> found =
        slot_of(directory).listing.after(after, limit);
    return std::vector<OriginListing::Numbered>(found.begin(), found.end());
  }
}

bool OriginListings::knows(NodeId directory) {
  const absl::MutexLock lock(&mutex_);
  return listings_.contains(directory);
}

OriginListings::Slot& OriginListings::slot_of(NodeId directory) {
  const auto [at, is_new] = listings_.try_emplace(directory);
  if (is_new) {
    by_use_.push_front(directory);
    at->second.place = by_use_.begin();
  } else {
    by_use_.splice(by_use_.begin(), by_use_, at->second.place);
  }
  return at->second;
}

void OriginListings::update(NodeId directory, std::vector<OriginEntry> entries) {
  // An empty one takes something, too.
  const bool is_new = !listings_.contains(directory);
  OriginListing& listing = slot_of(directory).listing;
  entries_ += entries.size() + (is_new ? 1 : 0);
  entries_ -= listing.size();
  listing.update(std::move(entries));
  while (entries_ > most_entries_ && by_use_.size() > 1) {
    const auto oldest = listings_.find(by_use_.back());
    by_use_.pop_back();
    entries_ -= oldest->second.listing.size() + 1;
    listings_.erase(oldest);
  }
}

}  // namespace blobcache::tree
