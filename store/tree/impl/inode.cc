#include "store/tree/impl/inode.h"

#include <algorithm>
#include <utility>

#include "store/page/geometry.h"

namespace blobcache::tree {

uint64_t allocated_bytes(const volume::Volume& volume) {
  const volume::VolumeDescription now = volume.description();
  const auto in_pages = [](uint64_t bytes) { return page::page_count(bytes) << page::kPageShift; };
  // Not none while it has a length: a mapping may have changed what has not been written yet.
  const uint64_t taken = std::max(now.data_bytes + in_pages(now.base_bytes), page::kPageSize);
  return std::min(in_pages(now.size_bytes), taken);
}

File::Content Inode::content() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return {object_, written_.volume};
}

std::shared_ptr<volume::Volume> Inode::volume() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return written_.volume;
}

VolumeRow Inode::volume_row() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return written_.row;
}

page::ObjectRef Inode::base() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return written_.base;
}

void Inode::be_written(WrittenTo written, absl::Time modified) {
  set_modified(modified);
  const absl::MutexLock lock(&mutex_);
  written_ = std::move(written);
  object_ = nullptr;  // the volume has it for a base
}

WrittenTo Inode::be_settled(page::ObjectRef object) {
  const absl::MutexLock lock(&mutex_);
  object_ = std::move(object);
  return std::exchange(written_, WrittenTo());
}

}  // namespace blobcache::tree
