#pragma once

#include "absl/status/statusor.h"
#include "store/page/object.h"
#include "store/tree/impl/catalog_tables.h"

namespace blobcache::tree {

/// What the page store must be told of a blob, from its row with its map. What is read back from
/// the catalog may be damaged: DATA_LOSS for a size that cannot be. A wrong size that can be shows
/// in the checksums of the pages and the size of the file.
[[nodiscard]] absl::StatusOr<page::ObjectSpec> blob_spec(BlobRow row);

}  // namespace blobcache::tree
