#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fusefs/impl/own_changes.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// What the kernel remembers of a mount's names and bytes.
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  /// Makes the kernel forget one name, bound or negative. May wait for requests that are under way.
  virtual void forget_name(tree::NodeId parent, const std::string& name) = 0;
  /// Makes the kernel forget a file's attributes, and what it has of these bytes once those that a
  /// mapping changed have been written. The same waiting.
  virtual void forget_content(tree::NodeId file, uint64_t offset, uint64_t length) = 0;
  /// Makes the kernel forget every name, and all bytes.
  virtual void forget_all() = 0;
};

/// Tells the kernel about names that changed, so that a removed name is gone and a rebound name new
/// within moments, and not when the timeouts say so; and about bytes of files that changed by
/// another way than this mount.
///
/// A thread of its own does the telling, because the kernel takes the directory's lock for it,
/// which a process may hold that waits for an answer from us: on a thread that serves requests (or
/// makes changes for one) that is a deadlock. So are the locks of the pages of a file.
///
/// The queue is bounded. Changes of one file's bytes that nobody told of yet are one. When it is
/// full it is emptied, and the kernel is made to forget everything instead: that costs lookups and
/// reads, never a stale answer.
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

  /// Tells the kernel what is queued, for `patience` at most, and then nothing more: what comes is
  /// only queued. False when by `deadline` something is being told still, and so may wait for the
  /// kernel. The kernel must be served meanwhile.
  [[nodiscard]] bool pause(absl::Duration patience, absl::Time deadline);
  void resume();
  /// Whether something is queued.
  [[nodiscard]] bool has_news();
  /// Has the kernel forget everything, as when the queue is full.
  void forget_all();

  /// What the mount itself is changing, of which the kernel is not told.
  [[nodiscard]] OwnChanges& own() { return own_; }

  /// Makes the kernel forget these bytes of a file before it calls `then`, on the thread that
  /// tells, ahead of all that waits. After stop() it is called at once, and by it what waits still.
  void forget_first(const OwnChanges::Change& bytes, absl::AnyInvocable<void() &&> then);

  // Never wait.
  void on_name_changed(tree::NodeId parent, std::string_view name) override;
  void on_content_changed(tree::NodeId file, uint64_t offset, uint64_t length) override;

 private:
  /// A name, or without one the bytes of a file that `contents_` has.
  struct Change {
    tree::NodeId node = 0;
    std::string name;
    bool is_content = false;
  };
  struct Bytes {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  struct First {
    OwnChanges::Change bytes;
    absl::AnyInvocable<void() &&> then;
  };
  enum class Next : uint8_t { kStop, kFirst, kAll, kChange };

  [[nodiscard]] bool has_room() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void be_full() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] Next wait_for_next(Change& change, Bytes& bytes, First& first);
  void run();

  KernelCache& cache_;
  const size_t capacity_;
  OwnChanges own_;
  absl::Mutex mutex_;  // never held while the cache is called
  std::deque<Change> changes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<tree::NodeId, Bytes> contents_ ABSL_GUARDED_BY(mutex_);
  std::deque<First> first_ ABSL_GUARDED_BY(mutex_);  // as many as the kernel has writes
  bool all_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool tells_ ABSL_GUARDED_BY(mutex_) = false;  ///< the thread is in the cache
  std::thread thread_;
};

}  // namespace blobcache::fusefs
