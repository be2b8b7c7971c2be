#include "store/page/impl/open_file_table.h"

#include "store/page/impl/object_file.h"

namespace blobcache::page {

void OpenFileTable::add(ObjectFile* file) {
  absl::MutexLock lock(&mutex_);
  if (place_.contains(file)) return;
  while (clock_.size() >= limit_ && close_one()) {
  }
  place_[file] = clock_.insert(clock_.end(), file);
}

void OpenFileTable::remove(ObjectFile* file) {
  absl::MutexLock lock(&mutex_);
  const auto at = place_.find(file);
  if (at == place_.end()) return;
  clock_.erase(at->second);
  place_.erase(at);
}

bool OpenFileTable::close_some() {
  absl::MutexLock lock(&mutex_);
  bool closed = false;
  for (size_t left = clock_.size() / 4 + 1; left > 0 && close_one(); --left) closed = true;
  return closed;
}

size_t OpenFileTable::size() {
  absl::MutexLock lock(&mutex_);
  return clock_.size();
}

bool OpenFileTable::close_one() {
  // Twice round: the first time only takes the marks of use away.
  for (size_t looks = 2 * clock_.size(); looks > 0 && !clock_.empty(); --looks) {
    ObjectFile* file = clock_.front();
    if (file->take_used()) {
      clock_.splice(clock_.end(), clock_, clock_.begin());
      continue;
    }
    // One that must stay open is no longer ours to count.
    const bool closed = file->close();
    clock_.pop_front();
    place_.erase(file);
    if (closed) return true;
  }
  return false;
}

}  // namespace blobcache::page
