#include "store/tree/impl/open_objects.h"

#include <algorithm>

namespace blobcache::tree {

void OpenObjects::note(int64_t blob, const page::ObjectRef& object) {
  const absl::MutexLock lock(&mutex_);
  objects_[blob] = object;
  if (objects_.size() < prune_at_) return;
  absl::erase_if(objects_, [](const auto& entry) { return entry.second.expired(); });
  // Twice what is left: each prune is paid for by the opens since the one before.
  prune_at_ = std::max(kFirstPrune, objects_.size() * 2);
}

bool OpenObjects::is_open(int64_t blob) {
  const absl::MutexLock lock(&mutex_);
  const auto found = objects_.find(blob);
  return found != objects_.end() && !found->second.expired();
}

}  // namespace blobcache::tree
