#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockdev/export_filter.h"
#include "blockdev/impl/nbd_handshake.h"
#include "store/tree/namespace.h"

namespace blobcache::blockdev {

/// The exports that the tree and the allow-list give: an export's name is its path. Thread-safe;
/// `names` must outlive it.
class TreeExports : public ExportDirectory {
 public:
  TreeExports(tree::Namespace& names, ExportFilter filter, std::string default_export)
      : names_(names), filter_(std::move(filter)), default_export_(std::move(default_export)) {}

  /// NOT_FOUND for what is not there, is a directory or is not allowed: the three look the same.
  [[nodiscard]] absl::StatusOr<OpenExport> open(std::string_view name) override;
  [[nodiscard]] absl::StatusOr<std::vector<Export>> list(size_t limit) override;

 private:
  [[nodiscard]] absl::Status walk(const std::string& top, size_t limit, std::vector<Export>& found);

  tree::Namespace& names_;
  const ExportFilter filter_;
  const std::string default_export_;
};

}  // namespace blobcache::blockdev
