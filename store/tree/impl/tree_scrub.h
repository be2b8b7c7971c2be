#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/scrub.h"

namespace blobcache::tree {

/// Has the page store scrub blobs, one after the other, and puts names to what it finds.
///
/// Blobs come and go meanwhile: the catalog is asked again before damage is told, so that files
/// that went with their blob are none. One that was put again while its old copy was looked at is
/// looked at again.
///
/// One thread at a time; what it is given outlives it.
class TreeScrub {
 public:
  TreeScrub(Catalog& catalog, page::PageStore& store, EditRunner& edits, ScrubWatcher& watcher)
      : catalog_(catalog), store_(store), edits_(edits), watcher_(watcher) {}

  /// Every blob that is here when it begins, and the catalog itself: DATA_LOSS when that is
  /// damaged, since what would be told of blobs means little then.
  [[nodiscard]] absl::Status run_all();
  /// One, by its row.
  [[nodiscard]] absl::Status run_blob(int64_t blob);
  /// The one of a file, by the file's row.
  [[nodiscard]] absl::Status run_file(int64_t file);
  /// All that have a name beneath a directory, by the directory's row; each once. Memory: 8 bytes a
  /// name.
  [[nodiscard]] absl::Status run_directory(int64_t directory);

 private:
  [[nodiscard]] absl::Status check_catalog();
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
  ScrubWatcher& watcher_;
};

}  // namespace blobcache::tree
