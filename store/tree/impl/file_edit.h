#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/name_editor.h"

namespace blobcache::tree {

// The steps that change what the content of a file beneath files/ is: a blob, or, while somebody
// writes to it, a volume over that blob; see tree_edit.h for what a step is. A file keeps its node
// through all of them.
//
// In blobs' descriptions the names of a file under writing stay with the blob that it was before,
// so that a rebuild brings that back; a new file is told of once it has settled.

/// Files under writing in the order of their ids, from the first one above `after`, at most
/// `limit`: none when there are no more.
[[nodiscard]] absl::StatusOr<std::vector<FileRow>> list_files_under_writing(CatalogReader& catalog,
                                                                            int64_t after,
                                                                            size_t limit);

/// Makes an empty file under writing, whose content is the volume of `volume` (its id is ignored,
/// and it has no base). Returns the file. Errors as add_name().
[[nodiscard]] absl::StatusOr<FileRow> make_file(CatalogWriter& catalog, const NewName& name,
                                                VolumeRow volume, absl::Time now, Effects& effects);

/// From now on the content of a settled file is the volume of `volume` (its id is ignored), whose
/// base must be the file's blob and holds it. Returns the file. ESTALE when the file is gone,
/// FAILED_PRECONDITION when it is none that has settled, or another blob than the base.
[[nodiscard]] absl::StatusOr<FileRow> begin_file(CatalogWriter& catalog, int64_t file,
                                                 VolumeRow volume);

/// The file has settled: its content is `blob`, and its volume (row `expected`) is dropped. Nothing
/// happens to a file that is gone: false then. FAILED_PRECONDITION when its content is something
/// else by now. `modified` is when it was last written to; absent: as it was noted. What becomes of
/// a blob that no name holds is the caller's.
[[nodiscard]] absl::StatusOr<bool> settle_file(CatalogWriter& catalog, int64_t file,
                                               int64_t expected, const BlobRow& blob,
                                               std::optional<absl::Time> modified, absl::Time now,
                                               Effects& effects);

/// Notes how long a file under writing is and when it was last written to; nothing for
/// any other one.
[[nodiscard]] absl::Status note_file(CatalogWriter& catalog, int64_t file, uint64_t length_bytes,
                                     absl::Time modified);

}  // namespace blobcache::tree
