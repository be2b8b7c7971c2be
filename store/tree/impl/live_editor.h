#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tree/impl/inode_table.h"
#include "store/tree/impl/origin_set.h"
#include "store/tree/name_editor.h"

namespace blobcache::tree {

/// An editor that knows of files under writing, whose length and time are not in the catalog, and
/// of what symbolic links of origins say. What it is given must outlive it.
class LiveEditor final : public NameEditor {
 public:
  LiveEditor(NameEditor& editor, InodeTable& inodes, OriginSet& origins)
      : editor_(editor), inodes_(inodes), origins_(origins) {}

  absl::StatusOr<Node> make_directory(const NewName& name) override {
    return editor_.make_directory(name);
  }
  absl::StatusOr<Node> make_symlink(const NewName& name, std::string_view target) override {
    return editor_.make_symlink(name, target);
  }
  absl::StatusOr<std::string> read_symlink(NodeId node) override {
    return OriginSet::has(node) ? origins_.read_symlink(node) : editor_.read_symlink(node);
  }
  absl::Status remove_file(NodeId parent, std::string_view name) override {
    return editor_.remove_file(parent, name);
  }
  absl::Status remove_directory(NodeId parent, std::string_view name) override {
    return editor_.remove_directory(parent, name);
  }
  absl::Status rename(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                      RenameMode mode) override {
    return editor_.rename(from, name, to, new_name, mode);
  }
  absl::StatusOr<Node> link(NodeId file, NodeId parent, std::string_view name) override {
    return live(editor_.link(file, parent, name));
  }
  absl::StatusOr<Node> set_attributes(NodeId node, const AttributeChange& change) override {
    absl::StatusOr<Node> changed = editor_.set_attributes(node, change);
    if (absl::IsNotFound(changed.status())) {
      if (const std::optional<Node> gone = inodes_.change_gone(node, change)) return *gone;
    }
    if (changed.ok() && change.modified) inodes_.set_modified(node, *change.modified);
    return live(std::move(changed));
  }
  absl::Status sync() override { return editor_.sync(); }

 private:
  absl::StatusOr<Node> live(absl::StatusOr<Node> node) {
    // What has settled meanwhile is as the row has it by then; nobody asked for that.
    if (node.ok()) (void)inodes_.bring_up_to_date(*node);
    return node;
  }

  NameEditor& editor_;
  InodeTable& inodes_;
  OriginSet& origins_;
};

}  // namespace blobcache::tree
