#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/lent_file.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// The kernel's side of passthrough: files of which it reads the bytes by itself. Thread-safe.
class BackingFiles {
 public:
  virtual ~BackingFiles() = default;
  /// Lends the kernel an open file; its number, never 0. errno_error of the ioctl.
  [[nodiscard]] virtual absl::StatusOr<int32_t> open(int fd) = 0;
  /// The number is no longer used for opens to come; those that are open keep the file.
  virtual void close(int32_t backing) = 0;
};

/// Which open files of a mount the kernel reads from the disk tier's files, with no daemon in
/// between (FUSE_PASSTHROUGH, Linux 6.9).
///
/// All opens of an inode must agree, and with the same file: the first decides for those that come
/// while it is open. A file is left open here a little longer than in the kernel, which tells of a
/// close after it, so that what is decided here holds there.
///
/// Thread-safe.
class Passthrough {
 public:
  explicit Passthrough(BackingFiles& kernel) : kernel_(kernel) {}

  /// The kernel has agreed to it. Before the first open; without this no file is passed through.
  void enable() { enabled_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool enabled() const { return enabled_.load(std::memory_order_relaxed); }

  using Lend = absl::FunctionRef<absl::StatusOr<page::LentFile>()>;
  /// A node is being opened: the number of the file that the kernel is to read, or 0 for one that
  /// it reads by us. `lend` is called where that can be chosen; an error says that it cannot be.
  /// Each call is followed by one of leave().
  [[nodiscard]] int32_t enter(tree::NodeId node, Lend lend) ABSL_LOCKS_EXCLUDED(mutex_);
  /// The number of the file that the kernel reads for a node; 0 when it is read by us, or not open.
  [[nodiscard]] int32_t backing(tree::NodeId node) const ABSL_LOCKS_EXCLUDED(mutex_);
  /// As enter(), for one that was opened in the process before, of which the kernel has `backing`,
  /// or 0. The first that tells of a node brings the lease.
  void restore(tree::NodeId node, int32_t backing, std::shared_ptr<const void> lease)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// One that was opened is closed.
  void leave(tree::NodeId node) ABSL_LOCKS_EXCLUDED(mutex_);
  /// The mount has ended, and the kernel's side with it.
  void clear() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Opens that were passed through, ever.
  [[nodiscard]] uint64_t opens() const { return opens_.load(std::memory_order_relaxed); }

 private:
  struct Open {
    uint32_t handles = 0;
    int32_t backing = 0;
    std::shared_ptr<const void> lease;  ///< of what is passed through
  };

  /// Lends the node's file to the kernel, if it can be.
  void lend_to_kernel(Lend lend, Open& open);

  BackingFiles& kernel_;
  std::atomic<bool> enabled_{false};  ///< from the beginning or never: all opens are counted
  std::atomic<bool> refused_{false};  ///< the kernel takes none
  std::atomic<uint64_t> opens_{0};
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<tree::NodeId, Open> open_ ABSL_GUARDED_BY(mutex_);
};

/// The real kernel, by the descriptor of a FUSE connection.
class KernelBackingFiles final : public BackingFiles {
 public:
  /// Before the first open.
  void attach(int fuse_fd) { fuse_fd_.store(fuse_fd); }
  [[nodiscard]] absl::StatusOr<int32_t> open(int fd) override;
  void close(int32_t backing) override;

 private:
  std::atomic<int> fuse_fd_{-1};
};

}  // namespace blobcache::fusefs
