#include "store/page/impl/object_table.h"

#include <algorithm>

#include "store/page/impl/store_core.h"

namespace blobcache::page {

std::shared_ptr<ObjectImpl> ObjectTable::attach(const ObjectSpec& spec, StoreCore& core) {
  Objects dropped;  // destroyed after the lock is gone
  const uint64_t extent_bytes = core.extent_bytes.load(std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  const Id id{spec.key, spec.incarnation.bytes};
  if (const auto at = objects_.find(id); at != objects_.end()) return at->second;
  if (objects_.size() >= kMaxIdle) {
    dropped = drop_idle();
  } else if (extent_bytes > next_look_bytes_) {
    dropped = drop_extents(extent_bytes);
  }
  auto object = std::make_shared<ObjectImpl>(next_id_++, spec, core);
  objects_.emplace(id, object);
  return object;
}

std::shared_ptr<ObjectImpl> ObjectTable::find(const ObjectKey& key,
                                              const Incarnation& incarnation) const {
  absl::MutexLock lock(&mutex_);
  const auto at = objects_.find({key, incarnation.bytes});
  return at == objects_.end() ? nullptr : at->second;
}

bool ObjectTable::is_held(const ObjectKey& key, const Incarnation& incarnation) const {
  absl::MutexLock lock(&mutex_);
  const auto at = objects_.find({key, incarnation.bytes});
  return at != objects_.end() && at->second.use_count() > 1;
}

std::shared_ptr<ObjectImpl> ObjectTable::take(const ObjectKey& key,
                                              const Incarnation& incarnation) {
  absl::MutexLock lock(&mutex_);
  const auto at = objects_.find({key, incarnation.bytes});
  if (at == objects_.end()) return nullptr;
  std::shared_ptr<ObjectImpl> object = std::move(at->second);
  objects_.erase(at);
  return object;
}

bool ObjectTable::take_idle(const ObjectKey& key, const Incarnation& incarnation) {
  std::shared_ptr<ObjectImpl> object;  // destroyed after the lock is gone
  absl::MutexLock lock(&mutex_);
  const auto at = objects_.find({key, incarnation.bytes});
  if (at == objects_.end()) return true;
  if (at->second.use_count() > 1) return false;
  object = std::move(at->second);
  objects_.erase(at);
  return true;
}

void ObjectTable::clear() {
  decltype(objects_) objects;
  absl::MutexLock lock(&mutex_);
  objects.swap(objects_);
}

size_t ObjectTable::size() const {
  absl::MutexLock lock(&mutex_);
  return objects_.size();
}

ObjectTable::Objects ObjectTable::drop_extents(uint64_t bytes) {
  const uint64_t enough = idle_extent_bytes_ / 4 * 3;
  Objects dropped;
  for (auto at = objects_.begin(); at != objects_.end() && bytes > enough;) {
    const auto here = at++;
    if (here->second.use_count() > 1 || here->second->frames() > 0) continue;
    bytes -= std::min(bytes, here->second->extents().bytes());
    dropped.push_back(std::move(here->second));
    objects_.erase(here);
  }
  // Those that are held, or in memory, stay: another walk is worth it once there are more.
  next_look_bytes_ = std::max(idle_extent_bytes_, bytes + bytes / 4);
  return dropped;
}

ObjectTable::Objects ObjectTable::drop_idle() {
  Objects dropped;
  for (const bool also_warm : {false, true}) {
    for (auto at = objects_.begin(); at != objects_.end();) {
      if (dropped.size() >= kMaxIdle / 4) return dropped;
      const auto here = at++;
      if (here->second.use_count() > 1 || (here->second->frames() > 0 && !also_warm)) continue;
      dropped.push_back(std::move(here->second));
      objects_.erase(here);
    }
  }
  return dropped;
}

}  // namespace blobcache::page
