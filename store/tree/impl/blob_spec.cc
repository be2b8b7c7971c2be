#include "store/tree/impl/blob_spec.h"

#include <fmt/format.h>

#include <utility>

#include "store/page/geometry.h"
#include "store/tree/digest.h"

namespace blobcache::tree {

absl::StatusOr<page::ObjectSpec> blob_spec(BlobRow row) {
  static const page::ObjectKey kEmpty = Sha256().finish();
  const bool possible =
      row.size_bytes <= page::kMaxObjectSize && (row.size_bytes == 0) == (row.key == kEmpty);
  if (!possible) {
    return absl::DataLossError(
        fmt::format("blobs/{}: the catalog has a wrong size for it", row.key.hex()));
  }
  page::ObjectSpec spec;
  spec.key = row.key;
  spec.incarnation = row.incarnation;
  spec.size_bytes = row.size_bytes;
  spec.retention = row.retention;
  spec.inline_map = std::move(row.inline_map);
  return spec;
}

}  // namespace blobcache::tree
