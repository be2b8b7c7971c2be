#include "fusefs/impl/open_files.h"

#include <utility>

namespace blobcache::fusefs {

uint64_t OpenFiles::add(OpenFile file) {
  auto owned = std::make_shared<const OpenFile>(std::move(file));
  const auto handle = reinterpret_cast<uint64_t>(owned.get());
  absl::MutexLock lock(&mutex_);
  OfNode& of_node = nodes_[owned->node.id];
  if (of_node.handles++ == 0) of_node.any = owned;
  files_.emplace(handle, std::move(owned));
  return handle;
}

const OpenFile& OpenFiles::file(uint64_t handle) {
  return *reinterpret_cast<const OpenFile*>(handle);
}

void OpenFiles::remove(uint64_t handle) {
  // Die after the lock: the last reference may touch the disk.
  std::shared_ptr<const OpenFile> closed;
  std::shared_ptr<const OpenFile> last;
  absl::MutexLock lock(&mutex_);
  const auto found = files_.find(handle);
  if (found == files_.end()) return;
  closed = std::move(found->second);
  files_.erase(found);
  const auto of_node = nodes_.find(closed->node.id);
  if (--of_node->second.handles > 0) return;
  last = std::move(of_node->second.any);
  nodes_.erase(of_node);
}

void OpenFiles::clear() {
  absl::flat_hash_map<uint64_t, std::shared_ptr<const OpenFile>> closed;
  absl::flat_hash_map<tree::NodeId, OfNode> last;
  absl::MutexLock lock(&mutex_);
  closed.swap(files_);
  last.swap(nodes_);
}

std::shared_ptr<const OpenFile> OpenFiles::find(tree::NodeId id) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto found = nodes_.find(id);
  return found == nodes_.end() ? nullptr : found->second.any;
}

std::vector<tree::NodeId> OpenFiles::nodes() const {
  absl::ReaderMutexLock lock(&mutex_);
  std::vector<tree::NodeId> out;
  out.reserve(nodes_.size());
  for (const auto& [id, of_node] : nodes_) out.push_back(id);
  return out;
}

absl::flat_hash_set<tree::NodeId> OpenFiles::written_nodes() const {
  absl::ReaderMutexLock lock(&mutex_);
  absl::flat_hash_set<tree::NodeId> out;
  for (const auto& [handle, file] : files_) {
    if (file->is_written) out.insert(file->node.id);
  }
  return out;
}

size_t OpenFiles::size() const {
  absl::ReaderMutexLock lock(&mutex_);
  return files_.size();
}

}  // namespace blobcache::fusefs
