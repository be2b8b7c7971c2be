#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/namespace.h"
#include "store/tree/scrub.h"
#include "store/tree/volumes.h"

namespace blobcache::tree {

/// Has the page store scrub blobs, one after the other, and reads volumes; puts names to what is
/// found.
///
/// Blobs come and go meanwhile: the catalog is asked again before damage is told, so that files
/// that went with their blob are none. One that was put again while its old copy was looked at is
/// looked at again. Volumes come and go as well, but for the one that is being read: to open it is
/// to use it, and one that is in use is not removed.
///
/// One thread at a time; what it is given outlives it.
class TreeScrub {
 public:
  TreeScrub(Catalog& catalog, page::PageStore& store, EditRunner& edits, Volumes& volumes,
            ScrubWatcher& watcher)
      : catalog_(catalog), store_(store), edits_(edits), volumes_(volumes), watcher_(watcher) {}

  /// Every blob and volume that is here when it begins, and the catalog itself: DATA_LOSS when that
  /// is damaged, since what would be told of blobs means little then.
  [[nodiscard]] absl::Status run_all();
  /// The same without the volumes.
  [[nodiscard]] absl::Status run_all_blobs();
  /// All that are here when it begins.
  [[nodiscard]] absl::Status run_volumes();
  /// One, by its node.
  [[nodiscard]] absl::Status run_volume(NodeId node);
  /// One, by its row.
  [[nodiscard]] absl::Status run_blob(int64_t blob);
  /// The one of a file, by the file's row.
  [[nodiscard]] absl::Status run_file(int64_t file);
  /// All that have a name beneath a directory, by the directory's row; each once. Memory: 8 bytes a
  /// name.
  [[nodiscard]] absl::Status run_directory(int64_t directory);

 private:
  [[nodiscard]] absl::Status check_catalog();
  [[nodiscard]] absl::Status run_all(const std::vector<VolumeInfo>& volumes);
  [[nodiscard]] absl::Status check_blobs_to(int64_t last);
  [[nodiscard]] absl::Status run_volumes(const std::vector<VolumeInfo>& volumes);
  [[nodiscard]] absl::Status check_volumes(const std::vector<VolumeInfo>& volumes);
  [[nodiscard]] absl::Status check_volume(const VolumeInfo& volume);
  /// What reading it gave, or that it cannot be opened; nothing when it has been removed.
  [[nodiscard]] absl::StatusOr<std::optional<page::ScrubResult>> read_volume(
      const VolumeInfo& volume);
  [[nodiscard]] absl::Status run_blobs(std::vector<int64_t> blobs);
  /// Looks at one, if it is still here, and at what its files tell of its names.
  [[nodiscard]] absl::Status check(int64_t blob);
  /// True when there is nothing left to do for the blob: it is told of, or gone. False when it has
  /// another copy by now.
  [[nodiscard]] absl::StatusOr<bool> report(const BlobRow& row, page::ScrubResult result);
  /// Puts a map that was made again in its row.
  void store_map(const BlobRow& row, const std::string& inline_map);

  Catalog& catalog_;
  page::PageStore& store_;
  EditRunner& edits_;
  Volumes& volumes_;
  ScrubWatcher& watcher_;
};

}  // namespace blobcache::tree
