#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/tree/files.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {

/// What one open(2) holds, which stays readable when its name is gone: one of three, and what its
/// node looked like, for fstat(2) after that. Immutable.
struct OpenFile {
  tree::FileRef file;                    ///< of a file beneath files/: the same for all its opens
  std::shared_ptr<volume::Image> image;  ///< of an image
  page::ObjectRef object;                ///< of any other file
  tree::Node node;
  bool is_written = false;  ///< it was opened for writing
  bool is_counted = false;  ///< by Passthrough
  /// The kernel passes what is written on, write by write: see write_rules.
  bool is_append = false;
  /// It was opened in the process before and has none of the three yet: the first request has it
  /// opened again, since that may have to wait.
  bool is_dormant = false;
};

/// The open files of a mount. The kernel holds each by a handle, which it passes with every request
/// for the file and gives back with RELEASE, after the last of them has been answered. That order
/// is the kernel's promise, and it makes file() safe without a lock: a handle is as good as a
/// pointer while requests use it.
///
/// A handle is the number of a slot, so that a process that takes the mount over can have the file
/// at the same handle. Slots are in blocks, each twice as large as the one before, that stay where
/// they are; a slot that is free is used again first.
///
/// Thread-safe. Owns the files; bounded by what the kernel lets processes open.
class OpenFiles {
 public:
  using FileRef = std::shared_ptr<const OpenFile>;

  /// The handle of a new open file; never 0.
  [[nodiscard]] uint64_t add(OpenFile file);
  /// The file of a handle that is open. Takes no lock.
  [[nodiscard]] const OpenFile& file(uint64_t handle) const {
    return *slot(handle)->load(std::memory_order_acquire);
  }
  /// Closes. A handle that is not open is left alone. Who closes a node's last one may wait for the
  /// disk.
  void remove(uint64_t handle);
  /// Closes all: the mount has ended.
  void clear();

  /// A file of this node, if any handle to it is open, else null.
  [[nodiscard]] FileRef find(tree::NodeId id) const;
  /// Each node of which there is an open file, once; and each that somebody may write to.
  [[nodiscard]] std::vector<tree::NodeId> nodes() const;
  [[nodiscard]] absl::flat_hash_set<tree::NodeId> written_nodes() const;
  [[nodiscard]] size_t size() const;

  /// All, by rising handles.
  [[nodiscard]] std::vector<std::pair<uint64_t, FileRef>> all() const;
  /// Has a file at the handle that it had in another process. By rising handles, from 1 to
  /// kMostHandles, before any other call. False for a handle that cannot be.
  [[nodiscard]] bool restore(uint64_t handle, OpenFile file);
  /// The file of a handle that is open is this one from now on. Requests that are under way may use
  /// the former one, which lives as long as the handle.
  void replace(uint64_t handle, OpenFile file);

  static constexpr uint64_t kMostHandles = (uint64_t{1} << 32) - 1;

 private:
  using Slot = std::atomic<const OpenFile*>;
  struct OfNode {
    FileRef any;
    size_t handles = 0;
  };
  struct Held {
    FileRef now;
    FileRef former;
  };

  static constexpr uint32_t kFirstBlockShift = 6;
  static constexpr size_t kBlocks = 33 - kFirstBlockShift;

  /// Block 0 has the first 2^kFirstBlockShift slots, block n those from 2^(kFirstBlockShift + n -
  /// 1) on.
  [[nodiscard]] static size_t block_of(uint64_t handle) {
    return static_cast<size_t>(std::bit_width(handle >> kFirstBlockShift));
  }
  [[nodiscard]] static size_t first_of(size_t block) {
    return block == 0 ? 0 : size_t{1} << (kFirstBlockShift + block - 1);
  }
  [[nodiscard]] Slot* slot(uint64_t handle) const {
    const size_t block = block_of(handle);
    return blocks_[block].load(std::memory_order_acquire) + (handle - first_of(block));
  }
  void put(uint64_t handle, FileRef file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::array<std::atomic<Slot*>, kBlocks> blocks_{};  ///< made when they are needed
  mutable absl::Mutex mutex_;
  std::vector<std::unique_ptr<Slot[]>> owned_blocks_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Held> files_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<tree::NodeId, OfNode> nodes_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> free_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;  ///< all handles below were used
};

}  // namespace blobcache::fusefs
