#pragma once

#include <cstdint>
#include <vector>

#include "store/page/impl/cache_state.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Takes extents of cached objects from the disk: first from the page map, then their blocks are
/// given back, so that no map ever tells of pages that are gone. For the disk cache's thread.
class CacheEvictor {
 public:
  explicit CacheEvictor(CacheState& state) : state_(state) {}

  /// Gives up extents of about `bytes` in all, the policy's choice; the bytes that went, 0 when
  /// nothing could.
  uint64_t evict(uint64_t bytes);
  /// Gives up what it can of one object; with the last of it go its files, if nobody has it open.
  /// False when it is not known.
  bool evict_file(const ObjectKey& key);
  /// Removes the files of an object that is not known, as it has not been counted yet.
  void remove_unknown(const ObjectKey& key);
  /// Removes objects that nobody has open, the longest unused first, until about `files` of their
  /// files are gone; how many went.
  uint64_t drop_idle_files(uint64_t files);

 private:
  /// What cannot go is back with the policy.
  void give_up(const std::vector<CachedExtents::Victim>& victims);
  [[nodiscard]] bool clear(ObjectImpl& object, uint64_t index, MapBlock& block);
  void restore(const CachedExtents::Victim& victim);
  void remove_if_empty(const ObjectKey& key);
  /// Removes an object that nobody has open, files and all, whatever its map says. False when it
  /// is in use or not known.
  bool drop_file(const ObjectKey& key);

  CacheState& state_;
};

}  // namespace blobcache::page
