#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "blockdev/export_filter.h"
#include "blockdev/impl/byte_buffer.h"
#include "blockdev/impl/export_directory.h"
#include "store/tree/namespace.h"

namespace blobcache::blockdev {

/// The exports that the tree and the allow-list give: an export's name is its path. Thread-safe;
/// `names` must outlive it.
///
/// A list waits for origins, all at once, for kPatience at most: those that have not told theirs by
/// then, or cannot, are left out.
class TreeExports : public ExportDirectory {
 public:
  /// Well within a handshake's time, which is 10 s unless somebody changed it.
  static constexpr absl::Duration kPatience = absl::Seconds(3);

  TreeExports(tree::Namespace& names, ExportFilter filter, std::string default_export)
      : names_(names),
        filter_(std::make_shared<const ExportFilter>(std::move(filter))),
        default_export_(std::move(default_export)) {}

  /// NOT_FOUND for what is not there, is a directory or is not allowed: the three look the same.
  /// Anything else that is in the way is logged, since a client may not say what it is told.
  [[nodiscard]] absl::StatusOr<OpenExport> open(std::string_view name) override;
  [[nodiscard]] absl::StatusOr<ExportList> list(size_t limit) override;

 private:
  [[nodiscard]] absl::StatusOr<OpenExport> open_allowed(std::string_view name);
  [[nodiscard]] absl::Status list_origins(size_t limit, ExportList& list);

  tree::Namespace& names_;
  const std::shared_ptr<const ExportFilter> filter_;
  const std::string default_export_;
  const std::shared_ptr<BufferPool> buffers_ = std::make_shared<BufferPool>();  ///< of volumes
};

}  // namespace blobcache::blockdev
