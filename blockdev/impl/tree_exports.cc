#include "blockdev/impl/tree_exports.h"

#include <fmt/format.h>

#include <utility>

#include "base/status.h"

namespace blobcache::blockdev {
namespace {

constexpr size_t kListBatch = 256;

}  // namespace

absl::StatusOr<OpenExport> TreeExports::open(std::string_view name) {
  if (name.empty()) name = default_export_;
  if (name.starts_with('/')) name.remove_prefix(1);
  if (name.empty() || !filter_.allows(name)) return absl::NotFoundError("no such export");
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names_.resolve(name));
  if (node.type != tree::NodeType::kFile) return absl::NotFoundError("a directory is no export");
  BLOBCACHE_ASSIGN_OR_RETURN(page::ObjectRef object, names_.open(node.id));
  return OpenExport{std::string(name), std::move(object)};
}

absl::StatusOr<std::vector<Export>> TreeExports::list(size_t limit) {
  std::vector<Export> found;
  for (const char* top : {"files", "blobs"}) BLOBCACHE_RETURN_IF_ERROR(walk(top, limit, found));
  return found;
}

/// Adds what is below `top`. The directories that are still to be entered wait in a list of our
/// own, not on the thread's stack, whose depth a deep tree must not decide.
absl::Status TreeExports::walk(const std::string& top, size_t limit, std::vector<Export>& found) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node root, names_.resolve(top));
  std::vector<std::pair<std::string, tree::NodeId>> to_enter{{top, root.id}};
  while (!to_enter.empty()) {
    const auto [path, directory] = std::move(to_enter.back());
    to_enter.pop_back();
    if (!filter_.allows_below(path)) continue;
    uint64_t cookie = 0;
    for (;;) {
      const auto batch = names_.list(directory, cookie, kListBatch);
      if (absl::IsNotFound(batch.status())) break;  // removed since its parent was listed
      BLOBCACHE_RETURN_IF_ERROR(batch.status());
      if (batch->empty()) break;
      for (const tree::NamedNode& entry : *batch) {
        std::string child = fmt::format("{}/{}", path, entry.name);
        if (entry.node.type == tree::NodeType::kDirectory) {
          to_enter.emplace_back(std::move(child), entry.node.id);
        } else if (filter_.allows(child)) {
          if (found.size() >= limit) return absl::OkStatus();
          found.push_back({std::move(child), entry.node.size_bytes});
        }
      }
      cookie = batch->back().cookie;
    }
  }
  return absl::OkStatus();
}

}  // namespace blobcache::blockdev
