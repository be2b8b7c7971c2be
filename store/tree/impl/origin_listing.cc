#include "store/tree/impl/origin_listing.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

using Numbered = OriginListing::Numbered;

constexpr uint64_t kLast = uint64_t{1} << 62;
constexpr uint64_t kFirst = kLast / 2;
constexpr uint64_t kStep = uint64_t{1} << 32;
static_assert(kStep * kMaxOriginEntries < kFirst / 2);

/// Numbers entries that are next to each other and have none, between `below` and `above`, which
/// are taken; 0 and more than kLast where nothing is there. False when there is no room.
bool fill_gap(absl::Span<Numbered> gap, uint64_t below, uint64_t above) {
  const uint64_t parts = gap.size() + 1;
  uint64_t step = (above - below) / parts;
  if (step == 0) return false;
  step = std::min(step, kStep);
  // At the beginning close to what follows, so that the room before it stays.
  if (below == 0) below = above > kLast ? kFirst : above - step * parts;
  for (size_t i = 0; i < gap.size(); ++i) gap[i].number = below + step * (i + 1);
  return true;
}

bool fill_gaps(std::vector<Numbered>& entries) {
  uint64_t below = 0;
  for (size_t begin = 0; begin < entries.size(); ++begin) {
    if (entries[begin].number == 0) {
      size_t end = begin;
      while (end < entries.size() && entries[end].number == 0) ++end;
      const uint64_t above = end == entries.size() ? kLast + 1 : entries[end].number;
      if (!fill_gap(absl::MakeSpan(entries).subspan(begin, end - begin), below, above)) {
        return false;
      }
      begin = end - 1;
    }
    below = entries[begin].number;
  }
  return true;
}

}  // namespace

bool is_showable(const OriginEntry& entry) {
  return entry.kind != OriginEntry::Kind::kSymlink || is_link_target(entry.target);
}

std::vector<OriginEntry> listable(std::vector<OriginEntry> entries) {
  absl::flat_hash_set<std::string> seen;
  std::erase_if(entries, [&seen](const OriginEntry& entry) {
    return !check_name(entry.name).ok() || !is_showable(entry) || !seen.insert(entry.name).second;
  });
  std::sort(entries.begin(), entries.end(),
            [](const OriginEntry& a, const OriginEntry& b) { return a.name < b.name; });
  return entries;
}

std::vector<Numbered> OriginListing::match(std::vector<OriginEntry> entries) const {
  std::vector<Numbered> matched;
  matched.reserve(entries.size());
  auto old = entries_.begin();
  for (OriginEntry& entry : entries) {
    while (old != entries_.end() && old->entry.name < entry.name) ++old;
    const bool known = old != entries_.end() && old->entry.name == entry.name;
    matched.push_back({std::move(entry), known ? old->number : 0});
  }
  return matched;
}

void OriginListing::update(std::vector<OriginEntry> entries) {
  entries_ = match(std::move(entries));
  if (fill_gaps(entries_)) return;
  for (Numbered& entry : entries_) entry.number = 0;
  static_cast<void>(fill_gaps(entries_));  // with nothing taken there is room
}

absl::Span<const Numbered> OriginListing::after(uint64_t after, size_t limit) const {
  const auto first = std::upper_bound(
      entries_.begin(), entries_.end(), after,
      [](uint64_t number, const Numbered& entry) { return number < entry.number; });
  const auto left = static_cast<size_t>(entries_.end() - first);
  return absl::MakeConstSpan(entries_).subspan(entries_.size() - left, std::min(limit, left));
}

}  // namespace blobcache::tree
