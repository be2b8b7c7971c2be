#pragma once

#include <string>
#include <string_view>

#include "store/tree/name_editor.h"

namespace blobcache::tree {

/// For trees of tests whose names nobody changes.
class NoEditor : public NameEditor {
 public:
  absl::StatusOr<Node> make_directory(const NewName& /*name*/) override { return no(); }
  absl::StatusOr<Node> make_symlink(const NewName& /*name*/, std::string_view /*target*/) override {
    return no();
  }
  absl::StatusOr<std::string> read_symlink(NodeId /*node*/) override { return no(); }
  absl::Status remove_file(NodeId /*parent*/, std::string_view /*name*/) override { return no(); }
  absl::Status remove_directory(NodeId /*parent*/, std::string_view /*name*/) override {
    return no();
  }
  absl::Status rename(NodeId /*from*/, std::string_view /*name*/, NodeId /*to*/,
                      std::string_view /*new_name*/, RenameMode /*mode*/) override {
    return no();
  }
  absl::StatusOr<Node> link(NodeId /*file*/, NodeId /*parent*/,
                            std::string_view /*name*/) override {
    return no();
  }
  absl::StatusOr<Node> set_attributes(NodeId /*node*/, const AttributeChange& /*change*/) override {
    return no();
  }
  absl::Status sync() override { return absl::OkStatus(); }

 private:
  static absl::Status no() { return absl::UnimplementedError("no editor here"); }
};

}  // namespace blobcache::tree
