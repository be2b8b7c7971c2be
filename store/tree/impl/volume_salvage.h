#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/tree/impl/catalog_tables.h"

namespace blobcache::tree {

/// Brings volumes back into a catalog that is made again. The folder of each tells what it is
/// called, how large it is and which base it needs; when it was made is not told, and counts as
/// `now`. One that is damaged, whose base is not back, or whose name another one has, is left out:
/// its folder is to be renamed, so that no start takes it for what a kill left. One rebuild each.
class VolumeSalvage {
 public:
  using Report = std::function<void(std::string_view line)>;

  /// `folder` is the store's.
  VolumeSalvage(const std::filesystem::path& folder, CatalogWriter& catalog, absl::Time now,
                Report report);

  /// After the blobs and their names.
  [[nodiscard]] absl::Status fill();
  /// How many were left out.
  [[nodiscard]] size_t left_out() const { return left_out_.size(); }
  /// Renames those to "<name>.damaged"; not synced.
  [[nodiscard]] absl::Status set_aside();

 private:
  [[nodiscard]] absl::Status add(const std::filesystem::path& folder);

  const std::filesystem::path folder_;
  CatalogWriter& catalog_;
  const absl::Time now_;
  const Report report_;
  std::vector<std::filesystem::path> left_out_;
};

}  // namespace blobcache::tree
