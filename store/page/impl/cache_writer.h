#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "store/page/frame_pool.h"
#include "store/page/impl/cache_evictor.h"
#include "store/page/impl/cache_state.h"
#include "store/page/impl/object_file.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// What a source brought of one extent and is to be written. Its frame is pinned.
struct Fill {
  std::shared_ptr<ObjectImpl> object;
  uint64_t extent = 0;
  Pin pin;
  PageMask pages = 0;  ///< with data
  PageMask zeros = 0;

  [[nodiscard]] uint64_t bytes() const { return uint64_t{page_total(pages)} << kPageShift; }
};

/// Writes what sources brought: data, then page maps, then it is known to readers. For the disk
/// cache's thread.
class CacheWriter {
 public:
  CacheWriter(CacheState& state, CacheEvictor& evictor) : state_(state), evictor_(evictor) {}

  /// Writes `fills`, evicting for them; what the disk does not take is not cached. Unpins them all.
  void write(std::vector<Fill>& fills);

 private:
  /// Leaves out what is on disk already and tells zeros from data.
  void sort_out(std::vector<Fill>& fills);
  /// Takes `bytes` of the budget, and sees that there are slots for `extents` more.
  [[nodiscard]] bool make_room(uint64_t bytes, size_t extents);
  /// Asks for the room of expired blobs while what is cached has hardly any.
  void ask_for_blobs(uint64_t bytes);
  /// Leaves in `fills` only what is on disk then.
  void write_data(std::vector<Fill>& fills);
  [[nodiscard]] absl::StatusOr<OpenFilesRef> open_files(ObjectImpl& object);
  /// Makes what is on disk known: to page maps, to the policy, to readers.
  void publish(std::vector<Fill>& fills);
  [[nodiscard]] bool enter(const Fill& fill, MapBlock& block);
  [[nodiscard]] CachedFile& file_of(const ObjectImpl& object)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  CacheState& state_;
  CacheEvictor& evictor_;
};

}  // namespace blobcache::page
