#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/tree_edit.h"

namespace blobcache::tree {

/// Where a name stands: in a directory, a row of `file`. Value type; borrows the name.
struct Place {
  int64_t parent = 0;
  std::string_view name;
};

/// Collects what a step changes of the names that blobs are described with. Of one blob all losses
/// are told before all gains, since a name may pass from one file to another of the same content.
/// Names without a path that can be said are passed over: no rebuild could bind them.
///
/// Made, used and finished within one step.
class NameTelling {
 public:
  /// What is beneath a directory that moves is told by the step when it is no more than this, else
  /// by a thread in the background: a rename is quick, however much moves with it.
  static constexpr size_t kMostBeneath = 128;
  /// So are the names of one file whose attributes change.
  static constexpr size_t kMostLinks = 32;

  explicit NameTelling(CatalogReader& catalog) : catalog_(catalog) {}

  // Of any kind of file; those that are no blob's change nothing.
  /// `file` loses the name at `place`.
  [[nodiscard]] absl::Status gone(const FileRow& file, const Place& place);
  /// `file` gets the name at `place`, or has other attributes there.
  [[nodiscard]] absl::Status bound(const FileRow& file, const Place& place);
  /// All names of `file` have its attributes as they are in the row.
  [[nodiscard]] absl::Status changed(const FileRow& file);
  /// All names of a file pass from one blob to another; either may be none.
  [[nodiscard]] absl::Status passed(const FileRow& before, const FileRow& after);
  /// A file, or a directory with all that is beneath it, goes from one place to another. Before the
  /// entries are changed.
  [[nodiscard]] absl::Status moved(const FileRow& file, const Place& from, const Place& to);

  /// Adds what was collected.
  void finish(Effects& effects) &&;

 private:
  using Kind = DescriptionChange::Kind;

  [[nodiscard]] absl::Status add(Kind kind, const FileRow& file, std::string path);
  [[nodiscard]] absl::Status moved_directory(int64_t directory, const std::string& from,
                                             const std::string& to);
  [[nodiscard]] absl::Status all_links(Kind kind, const FileRow& file);

  CatalogReader& catalog_;
  std::vector<DescriptionChange> losses_;
  std::vector<DescriptionChange> gains_;
  std::vector<int64_t> moved_directories_;
};

}  // namespace blobcache::tree
