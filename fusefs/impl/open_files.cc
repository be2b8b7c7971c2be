#include "fusefs/impl/open_files.h"

#include <utility>

namespace blobcache::fusefs {

uint64_t OpenFiles::add(OpenFile file) {
  auto owned = std::make_unique<const OpenFile>(std::move(file));
  const auto handle = reinterpret_cast<uint64_t>(owned.get());
  absl::MutexLock lock(&mutex_);
  files_.emplace(handle, std::move(owned));
  return handle;
}

const OpenFile& OpenFiles::file(uint64_t handle) {
  return *reinterpret_cast<const OpenFile*>(handle);
}

void OpenFiles::remove(uint64_t handle) {
  std::unique_ptr<const OpenFile>
      closed;  // dies after the lock: the last reference may touch the disk
  absl::MutexLock lock(&mutex_);
  const auto found = files_.find(handle);
  if (found == files_.end()) return;
  closed = std::move(found->second);
  files_.erase(found);
}

void OpenFiles::clear() {
  absl::flat_hash_map<uint64_t, std::unique_ptr<const OpenFile>> closed;
  absl::MutexLock lock(&mutex_);
  closed.swap(files_);
}

std::optional<OpenFile> OpenFiles::find(tree::NodeId id) const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [handle, file] : files_) {
    if (file->node.id == id) return *file;
  }
  return std::nullopt;
}

size_t OpenFiles::size() const {
  absl::MutexLock lock(&mutex_);
  return files_.size();
}

}  // namespace blobcache::fusefs
