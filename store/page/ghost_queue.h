#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace blobcache::page {

/// Identities of what was evicted lately, oldest first: a policy's memory of what it gave up.
///
/// Not thread-safe. About 40 bytes an identity; every call is O(1), amortised.
class GhostQueue {
 public:
  /// Remembers `identity` as the newest and forgets the oldest beyond `limit`.
  void remember(uint64_t identity, size_t limit);
  /// How many were remembered after `identity`; nothing when it is not here. It is not afterwards.
  [[nodiscard]] std::optional<uint64_t> take(uint64_t identity);

 private:
  // Each with the number that it was remembered under, so that an identity that was taken and
  // remembered again is not forgotten with its older place.
  std::deque<std::pair<uint64_t, uint64_t>> order_;
  absl::flat_hash_map<uint64_t, uint64_t> numbers_;
  uint64_t next_ = 0;
};

}  // namespace blobcache::page
