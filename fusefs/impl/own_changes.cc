#include "fusefs/impl/own_changes.h"

#include <algorithm>

namespace blobcache::fusefs {
namespace {

thread_local const OwnChanges* marked_by = nullptr;

}  // namespace

OwnChanges::Marker::Marker(const OwnChanges& changes) : before_(marked_by) { marked_by = &changes; }

OwnChanges::Marker::~Marker() { marked_by = before_; }

bool OwnChanges::by_this_thread() const { return marked_by == this; }

void OwnChanges::begin(const Change& change) {
  const absl::MutexLock lock(&mutex_);
  under_way_.push_back(change);
}

void OwnChanges::end(const Change& change) { static_cast<void>(remove(change)); }

bool OwnChanges::take(const Change& change) { return remove(change); }

bool OwnChanges::remove(const Change& change) {
  const absl::MutexLock lock(&mutex_);
  const auto found = std::find(under_way_.begin(), under_way_.end(), change);
  if (found == under_way_.end()) return false;
  *found = under_way_.back();
  under_way_.pop_back();
  return true;
}

}  // namespace blobcache::fusefs
