#include "store/tree/impl/listener_list.h"

#include <algorithm>
#include <utility>

namespace blobcache::tree {

void ListenerList::add(NamespaceListener* listener) {
  const absl::MutexLock lock(&mutex_);
  entries_.push_back(std::make_shared<Entry>(Entry{.listener = listener}));
}

void ListenerList::remove(NamespaceListener* listener) {
  const absl::MutexLock lock(&mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [listener](const auto& entry) {
    return entry->listener == listener;
  });
  if (found == entries_.end()) return;
  const std::shared_ptr<Entry> entry = std::move(*found);
  entries_.erase(found);
  const auto idle = [&entry] { return entry->calls == 0; };
  mutex_.Await(absl::Condition(&idle));
}

void ListenerList::notify(const std::vector<NameChange>& changes) {
  if (changes.empty()) return;
  call([&changes](NamespaceListener& listener) {
    for (const NameChange& change : changes) listener.on_name_changed(change.parent, change.name);
  });
}

void ListenerList::notify_content(NodeId file, uint64_t offset, uint64_t length) {
  call([=](NamespaceListener& listener) { listener.on_content_changed(file, offset, length); });
}

void ListenerList::call(absl::FunctionRef<void(NamespaceListener&)> tell) {
  Entries entries;
  {
    const absl::MutexLock lock(&mutex_);
    entries = entries_;
    for (const auto& entry : entries) ++entry->calls;
  }
  for (const auto& entry : entries) {
    tell(*entry->listener);
    const absl::MutexLock lock(&mutex_);
    --entry->calls;
  }
}

}  // namespace blobcache::tree
