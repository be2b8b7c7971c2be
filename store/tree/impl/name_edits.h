#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/name_editor.h"

namespace blobcache::tree {

/// The editor over the catalog: each call runs one step of name_steps.h, without a sync. What it is
/// given must outlive it.
class NameEdits final : public NameEditor {
 public:
  using Clock = std::function<absl::Time()>;

  NameEdits(Catalog& catalog, EditRunner& edits, Ballast& ballast, Clock clock)
      : catalog_(catalog), edits_(edits), ballast_(ballast), clock_(std::move(clock)) {}

  absl::StatusOr<Node> make_directory(const NewName& name) override;
  absl::StatusOr<Node> make_symlink(const NewName& name, std::string_view target) override;
  absl::StatusOr<std::string> read_symlink(NodeId node) override;
  absl::Status remove_file(NodeId parent, std::string_view name) override;
  absl::Status remove_directory(NodeId parent, std::string_view name) override;
  absl::Status rename(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                      RenameMode mode) override;
  absl::StatusOr<Node> link(NodeId file, NodeId parent, std::string_view name) override;
  absl::StatusOr<Node> set_attributes(NodeId node, const AttributeChange& change) override;
  absl::Status sync() override;

 private:
  using Step = absl::FunctionRef<absl::StatusOr<FileRow>(CatalogWriter&, absl::Time, Effects&)>;

  absl::StatusOr<Node> run(Step step);

  Catalog& catalog_;
  EditRunner& edits_;
  Ballast& ballast_;
  const Clock clock_;
};

}  // namespace blobcache::tree
