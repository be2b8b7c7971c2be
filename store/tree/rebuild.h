#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace blobcache::tree {

/// What came of a rebuild. Value type.
struct RebuildSummary {
  uint64_t blobs = 0;       ///< in the new catalog
  uint64_t blob_bytes = 0;  ///< their content
  uint64_t names = 0;       ///< under files/
  uint64_t left_out = 0;    ///< blobs, volumes and files whose files are damaged or cannot be read
  /// Files that were being written, which are now beneath files/lost+found/; blobs that are back,
  /// but whose names are unknown or not all known; and names that could not be bound beside the
  /// others.
  uint64_t names_lost = 0;
  std::filesystem::path set_aside;  ///< where the damaged catalog is now; empty: there was none

  [[nodiscard]] bool complete() const { return left_out == 0 && names_lost == 0; }
};

struct RebuildOptions {
  std::filesystem::path path;  ///< the store's directory
  /// Told of each problem, a line without its newline.
  std::function<void(std::string_view line)> report;
  std::function<absl::Time()> clock;  ///< absent: the system's
};

/// Makes a store's catalog again from the blobs' files, which describe themselves. Every file is
/// read and compared with its digest; one that does not match is reported, left out and renamed to
/// "<name>.damaged". A blob without a name counts as put now. docs/disk-format.md tells what cannot
/// come back.
///
/// The new catalog takes its place in one step when it is whole, so a rebuild that fails or is
/// killed can be run again. Blocks for as long as it takes to read all blobs. UNAVAILABLE while a
/// daemon has the store, FAILED_PRECONDITION when there is no store or its catalog is whole.
[[nodiscard]] absl::StatusOr<RebuildSummary> rebuild_catalog(const RebuildOptions& options);

}  // namespace blobcache::tree
