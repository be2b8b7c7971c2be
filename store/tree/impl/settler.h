#pragma once

#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/tree/impl/inode.h"

namespace blobcache::tree {

/// What the settler's threads do with a file.
class SettleWork {
 public:
  virtual ~SettleWork() = default;
  /// Makes a file settled. CANCELLED when somebody writes to it again, who will queue it, or
  /// stopping() says so; other errors are tried again.
  [[nodiscard]] virtual absl::Status settle(const std::shared_ptr<Inode>& inode) = 0;
};

/// Settles files that have rested for a while, the one that rests longest first, on threads of its
/// own: several, as each waits for the syncs of its blob's files.
///
/// Thread-safe.
class Settler {
 public:
  static constexpr size_t kThreads = 4;

  /// `work` must outlive it.
  Settler(SettleWork& work, absl::Duration rest) : work_(work), rest_(rest) {}
  ~Settler() { stop(); }
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;

  /// Rests from now on; again, if it did already. Its threads are begun with the first.
  void add(const std::shared_ptr<Inode>& inode) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Nothing rests any more until `on` is false again: too much waits to be settled.
  void hurry(bool on) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Settles nothing until `on` is false again: those who write to what rests are not here yet.
  void hold(bool on) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Whether anything rests, or is being settled, that did not fail lately, and nobody holds it.
  [[nodiscard]] bool has_hope() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Ends the threads; what waits is left as it is. Idempotent.
  void stop() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool stopping() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// Holds nothing: a file that is removed meanwhile has its room given back at once.
  using Resting = absl::btree_multimap<absl::Time, std::weak_ptr<Inode>>;

  void work() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::shared_ptr<Inode> take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Null when it stops.
  [[nodiscard]] std::shared_ptr<Inode> wait_for_one() ABSL_LOCKS_EXCLUDED(mutex_);

  SettleWork& work_;
  const absl::Duration rest_;
  absl::Mutex mutex_;
  Resting resting_ ABSL_GUARDED_BY(mutex_);  ///< by when they are due
  Resting failed_ ABSL_GUARDED_BY(mutex_);   ///< to be tried again
  size_t at_work_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hurrying_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
