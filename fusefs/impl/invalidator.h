#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// What the kernel remembers of a mount's names.
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  /// Makes the kernel forget one name, bound or negative. May wait for requests that are under way.
  virtual void forget_name(tree::NodeId parent, const std::string& name) = 0;
  /// Makes the kernel forget every name.
  virtual void forget_all() = 0;
};

/// Tells the kernel about names that changed, so that a removed name is gone and a rebound name new
/// within moments, and not when the timeouts say so.
///
/// A thread of its own does the telling, because the kernel takes the directory's lock for it,
/// which a process may hold that waits for an answer from us: on a thread that serves requests (or
/// makes changes for one) that is a deadlock.
///
/// The queue is bounded. When it is full it is emptied, and the kernel is made to forget every name
/// instead: that costs lookups, never a stale answer.
///
/// Thread-safe. `cache` must outlive it.
class Invalidator final : public tree::NamespaceListener {
 public:
  static constexpr size_t kCapacity = 16384;

  explicit Invalidator(KernelCache& cache, size_t capacity = kCapacity);
  ~Invalidator() override { stop(); }
  Invalidator(const Invalidator&) = delete;
  Invalidator& operator=(const Invalidator&) = delete;

  void start();
  /// Ends the thread; what is queued still is dropped. Idempotent. The kernel must be served until
  /// this returns (or its connection have ended), or it may wait for ever.
  void stop();

  /// Never waits.
  void on_name_changed(tree::NodeId parent, std::string_view name) override;

 private:
  struct Change {
    tree::NodeId parent;
    std::string name;
  };

  void run();

  KernelCache& cache_;
  const size_t capacity_;
  absl::Mutex mutex_;  // never held while the cache is called
  std::deque<Change> changes_ ABSL_GUARDED_BY(mutex_);
  bool all_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace blobcache::fusefs
