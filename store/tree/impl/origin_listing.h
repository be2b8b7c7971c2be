#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "store/tree/origin.h"

namespace blobcache::tree {

/// Whether the tree can show an entry at all, whatever it is called: of a link, whether it says
/// what a link can say.
[[nodiscard]] bool is_showable(const OriginEntry& entry);

/// What an origin lists, which may be anything, as the tree shows it: without what cannot be shown
/// and names that cannot be (check_name()), sorted by name, and of one name the first. Names are
/// bytes: two that differ in case, or in how a letter is written, are two.
[[nodiscard]] std::vector<OriginEntry> listable(std::vector<OriginEntry> entries);

/// A directory of an origin as it was last listed, each entry with a number that rises with the
/// names and stays the name's own from one listing to the next: who goes on after a number meets
/// whatever was there all the time exactly once, in the order of the names, whatever came and went
/// meanwhile.
///
/// The numbers of a first listing are far apart. A name that comes later gets one in the gap where
/// it belongs, beyond the last one a step further. Only when a gap is used up (some thirty names,
/// each next to the one before and each in another listing) all are numbered anew, and walks that
/// are under way then may miss names or see them twice.
///
/// Knows no I/O. One thread at a time.
class OriginListing {
 public:
  struct Numbered {
    OriginEntry entry;
    uint64_t number = 0;  ///< 1 to 2^62
  };

  /// What is there now: sorted by name, each name once.
  void update(std::vector<OriginEntry> entries);

  /// Up to `limit` entries whose number is above `after`.
  [[nodiscard]] absl::Span<const Numbered> after(uint64_t after, size_t limit) const;

  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  /// Takes over the numbers of names that were there before; 0 for the others.
  [[nodiscard]] std::vector<Numbered> match(std::vector<OriginEntry> entries) const;

  std::vector<Numbered> entries_;
};

}  // namespace blobcache::tree
