#include "fusefs/impl/open_files.h"

#include <algorithm>
#include <utility>

namespace blobcache::fusefs {

uint64_t OpenFiles::add(OpenFile file) {
  auto owned = std::make_shared<const OpenFile>(std::move(file));
  absl::MutexLock lock(&mutex_);
  uint64_t handle = next_;
  if (free_.empty()) {
    ++next_;
  } else {
    handle = free_.back();
    free_.pop_back();
  }
  put(handle, std::move(owned));
  return handle;
}

void OpenFiles::put(uint64_t handle, FileRef file) {
  const size_t block = block_of(handle);
  if (blocks_[block].load() == nullptr) {
    const size_t slots = std::max(first_of(block), size_t{1} << kFirstBlockShift);
    owned_blocks_.push_back(std::make_unique<Slot[]>(slots));
    blocks_[block].store(owned_blocks_.back().get(), std::memory_order_release);
  }
  slot(handle)->store(file.get(), std::memory_order_release);
  OfNode& of_node = nodes_[file->node.id];
  if (of_node.handles++ == 0) of_node.any = file;
  files_[handle].now = std::move(file);
}

void OpenFiles::remove(uint64_t handle) {
  // Die after the lock: the last reference may touch the disk.
  Held closed;
  FileRef last;
  absl::MutexLock lock(&mutex_);
  const auto found = files_.find(handle);
  if (found == files_.end()) return;
  closed = std::move(found->second);
  files_.erase(found);
  free_.push_back(handle);
  const auto of_node = nodes_.find(closed.now->node.id);
  if (--of_node->second.handles > 0) return;
  last = std::move(of_node->second.any);
  nodes_.erase(of_node);
}

void OpenFiles::clear() {
  absl::flat_hash_map<uint64_t, Held> closed;
  absl::flat_hash_map<tree::NodeId, OfNode> last;
  absl::MutexLock lock(&mutex_);
  closed.swap(files_);
  last.swap(nodes_);
}

OpenFiles::FileRef OpenFiles::find(tree::NodeId id) const {
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
  for (const auto& [handle, held] : files_) {
    if (held.now->is_written) out.insert(held.now->node.id);
  }
  return out;
}

size_t OpenFiles::size() const {
  absl::ReaderMutexLock lock(&mutex_);
  return files_.size();
}

std::vector<std::pair<uint64_t, OpenFiles::FileRef>> OpenFiles::all() const {
  absl::ReaderMutexLock lock(&mutex_);
  std::vector<std::pair<uint64_t, FileRef>> out;
  out.reserve(files_.size());
  for (const auto& [handle, held] : files_) out.emplace_back(handle, held.now);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return out;
}

bool OpenFiles::restore(uint64_t handle, OpenFile file) {
  absl::MutexLock lock(&mutex_);
  if (handle < next_ || handle > kMostHandles) return false;
  // Those between are free; as many as were open at once at most.
  for (; next_ < handle; ++next_) free_.push_back(next_);
  ++next_;
  put(handle, std::make_shared<const OpenFile>(std::move(file)));
  return true;
}

void OpenFiles::replace(uint64_t handle, OpenFile file) {
  auto owned = std::make_shared<const OpenFile>(std::move(file));
  FileRef unused;
  absl::MutexLock lock(&mutex_);
  const auto found = files_.find(handle);
  if (found == files_.end()) return;
  // Two who found it dormant: the first one's is the file.
  if (!found->second.now->is_dormant) return;
  slot(handle)->store(owned.get(), std::memory_order_release);
  OfNode& of_node = nodes_[owned->node.id];
  if (of_node.any == found->second.now) {
    unused = std::move(of_node.any);
    of_node.any = owned;
  }
  found->second.former = std::exchange(found->second.now, std::move(owned));
}

}  // namespace blobcache::fusefs
