#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/geometry.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// The files of cached objects, whose pages come and go. KEY is 64 hex digits:
///
///     cache/<2 hex>/KEY         the object's data, sparse, of its exact size
///     cache/<2 hex>/KEY.map     its page map; the header tells the incarnation
///
/// Nothing here is ever synced: a page counts only if its checksum matches. Thread-safe, as far as
/// no two threads change the same object's files.
class CacheFolder {
 public:
  explicit CacheFolder(DiskTier& disk) : disk_(disk) {}

  /// Makes the files of an object, without pages; what was there under its key is gone.
  [[nodiscard]] absl::Status create(const MapHeader& header) const;
  /// What the object's map says of it. NOT_FOUND when there is none; DATA_LOSS for one that is of
  /// no use.
  [[nodiscard]] absl::StatusOr<MapHeader> header(const ObjectKey& key) const;
  /// Unlinks an object's files; ones that are gone are no error.
  [[nodiscard]] absl::Status remove(const ObjectKey& key) const;

  /// One object's files, by their names and sizes. Value type.
  struct Found {
    ObjectKey key;
    uint64_t allocated_bytes = 0;  ///< of the data file
    int64_t modified_ns = 0;       ///< when its map was last written
  };
  static constexpr unsigned kFolders = 256;
  /// All objects with a page map in one of the folders; data without one is removed. Reads no file.
  [[nodiscard]] std::vector<Found> list(unsigned folder) const;

  /// What a page map says is on disk: words by extent, without those that are 0.
  using Pages = std::vector<std::pair<uint32_t, PageMask>>;
  /// Reads a whole page map. Blocks that are damaged say nothing.
  [[nodiscard]] absl::StatusOr<Pages> pages(const MapHeader& header) const;
  /// Gives back what the data file holds beside `pages` (in the order of extents): what a kill left
  /// between data and map.
  [[nodiscard]] absl::Status trim(const MapHeader& header, const Pages& pages) const;

 private:
  /// As create(); leaves behind what it had made before an error.
  [[nodiscard]] absl::Status make_files(const MapHeader& header) const;
  [[nodiscard]] absl::Status trim_extent(int fd, uint64_t extent, PageMask keep) const;

  DiskTier& disk_;
};

}  // namespace blobcache::page
