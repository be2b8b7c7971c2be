#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/source.h"

namespace blobcache::page {

class ReadOperation;

/// Names one extent of one object in use. Value type.
struct ExtentId {
  uint64_t object = 0;  ///< ObjectImpl::id()
  uint64_t index = 0;

  friend bool operator==(const ExtentId&, const ExtentId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ExtentId& id) {
    return H::combine(std::move(h), id.object, id.index);
  }
  [[nodiscard]] uint64_t hash() const { return absl::Hash<ExtentId>{}(*this); }
};

/// Who waits for which pages of an extent that is being fetched.
struct Flight {
  struct Waiter {
    std::shared_ptr<ReadOperation> operation;
    size_t part = 0;       ///< which of the operation's extents
    PageMask waiting = 0;  ///< pages that it still lacks
  };
  /// A fetch from a source under way, so that the last waiter to leave can cancel it.
  struct SourceFetch {
    PageMask pages = 0;
    std::shared_ptr<Source::Fetch> fetch;
    bool cancelled = false;  ///< by us, as nobody waited
  };
  std::vector<Waiter> waiters;
  std::vector<SourceFetch> source_fetches;

  /// The fetches that bring some of these pages.
  [[nodiscard]] std::vector<std::shared_ptr<Source::Fetch>> fetches_of(PageMask pages) const {
    std::vector<std::shared_ptr<Source::Fetch>> found;
    for (const SourceFetch& each : source_fetches) {
      if ((each.pages & pages) != 0) found.push_back(each.fetch);
    }
    return found;
  }

  [[nodiscard]] PageMask waited_for() const {
    PageMask pages = 0;
    for (const Waiter& waiter : waiters) pages |= waiter.waiting;
    return pages;
  }
};

/// The extents with fetches under way, and the locks of all extents: 64 shards by hash.
///
/// A shard's mutex guards its flights and, of every extent that hashes to it, all writes to the
/// Extent. Lock order: MemoryTier's mutex before a shard's; nothing is called out to under a
/// shard's mutex.
class FlightTable {
 public:
  struct Shard {
    mutable absl::Mutex mutex;
    absl::flat_hash_map<ExtentId, Flight> flights ABSL_GUARDED_BY(mutex);
  };

  [[nodiscard]] Shard& shard(const ExtentId& id) { return shards_[id.hash() % shards_.size()]; }

  /// Extents with a fetch under way.
  [[nodiscard]] uint64_t size() const {
    uint64_t flights = 0;
    for (const Shard& shard : shards_) {
      absl::ReaderMutexLock lock(&shard.mutex);
      flights += shard.flights.size();
    }
    return flights;
  }

 private:
  std::array<Shard, 64> shards_;
};

}  // namespace blobcache::page
