#include "store/tree/impl/open_catalog.h"

#include <spdlog/spdlog.h>

#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::tree {

absl::StatusOr<std::unique_ptr<Catalog>> open_catalog(const std::filesystem::path& directory,
                                                      page::PageStore& store, Ballast& ballast,
                                                      bool ended_cleanly) {
  std::unique_ptr<Catalog> catalog;
  const auto open = [&]() -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(catalog, Catalog::open(
                                            directory / "catalog.sqlite", directory / "objects",
                                            [&store](absl::Span<page::ObjectWriter* const> sealed) {
                                              return store.sync(sealed);
                                            },
                                            ended_cleanly));
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(ballast.with_room(open));
  if (!ballast.make()) {
    spdlog::warn("the file system of {} is full: there is no room to hold {} KiB for removals",
                 directory.string(), Ballast::kBytes >> 10);
  }
  return catalog;
}

}  // namespace blobcache::tree
