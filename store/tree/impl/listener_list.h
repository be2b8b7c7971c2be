#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// Who wants to hear of changed names. Thread-safe; no lock is held while a listener is called, so
/// that it may use the namespace.
class ListenerList {
 public:
  void add(NamespaceListener* listener) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Returns when no call to `listener` is under way and none will come: it may die. Must not be
  /// called from within such a call.
  void remove(NamespaceListener* listener) ABSL_LOCKS_EXCLUDED(mutex_);

  void notify(const std::vector<NameChange>& changes) ABSL_LOCKS_EXCLUDED(mutex_);
  /// As NamespaceListener::on_content_changed.
  void notify_content(NodeId file, uint64_t offset, uint64_t length) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    NamespaceListener* listener;
    size_t calls = 0;  // under way; guarded by mutex_
  };
  using Entries = std::vector<std::shared_ptr<Entry>>;

  void call(absl::FunctionRef<void(NamespaceListener&)> tell) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
