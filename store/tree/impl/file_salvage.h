#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog_tables.h"

namespace blobcache::tree {

/// Brings files under writing back into a catalog that is made again. What they were called is told
/// nowhere but in the catalog that is lost, so they come by "files/lost+found/<32 hex>", each
/// reported. One that cannot be opened, or whose base is not back, is left out: its files are
/// renamed, so that no start takes them for what a kill left. One rebuild each.
class FileSalvage {
 public:
  using Report = std::function<void(std::string_view line)>;

  /// `store` is the store's folder.
  FileSalvage(const std::filesystem::path& store, CatalogWriter& catalog, absl::Time now,
              Report report);

  /// After the blobs and their names.
  [[nodiscard]] absl::Status fill();
  [[nodiscard]] uint64_t found() const { return found_; }
  [[nodiscard]] uint64_t left_out() const { return left_out_.size(); }
  /// Renames those to "<32 hex>.damaged.<what it is>"; not synced.
  [[nodiscard]] absl::Status set_aside();

 private:
  [[nodiscard]] absl::Status add(const page::Incarnation& incarnation);

  const std::filesystem::path folder_;
  CatalogWriter& catalog_;
  const absl::Time now_;
  const Report report_;
  uint64_t found_ = 0;
  std::vector<page::Incarnation> left_out_;
};

}  // namespace blobcache::tree
