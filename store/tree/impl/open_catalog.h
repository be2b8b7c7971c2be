#pragma once

#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"
#include "store/page/page_store.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"

namespace blobcache::tree {

/// Opens the catalog, if need be in the ballast's room: a daemon that is started on a full disk can
/// be told what to remove.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Catalog>> open_catalog(
    const std::filesystem::path& directory, page::PageStore& store, Ballast& ballast,
    bool ended_cleanly);

}  // namespace blobcache::tree
