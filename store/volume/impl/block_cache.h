#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/page_map.h"
#include "store/volume/impl/map_file.h"

namespace blobcache::volume {

/// A block of the map in memory: the states of 15 extents, each under a lock of its own, which a
/// writer holds while it changes the extent's pages in the file, too. What concerns the block as a
/// whole changes only under all of them (see AllExtents), and so may be read under any.
struct Block {
  using Mutexes = std::array<absl::Mutex, page::kExtentsPerMapBlock>;

  Block(uint64_t block_number, const StoredBlock& stored)
      : number(block_number),
        states(stored.states),
        copy(stored.copy),
        stored_pages(data_pages_of(stored.states)),
        was_stored(stored.checkpoint > 0) {}

  const uint64_t number;
  mutable Mutexes extents;
  page::MapBlock states;
  /// The last cut for which the extent's state was put by; see CutState.
  std::array<uint32_t, page::kExtentsPerMapBlock> frozen{};
  /// The journal tells, durably, that the block may be written to.
  bool has_intent = false;
  /// Is other than what the file has. Set under any of the locks, cleared under all.
  std::atomic<bool> dirty{false};

  // For one checkpoint at a time.
  uint64_t copy;          ///< that the file has
  uint64_t stored_pages;  ///< the pages of its own in that copy
  std::atomic<bool> was_stored;

  std::atomic<uint32_t> users{0};  ///< grows only under the cache's lock
  std::atomic<bool> used{true};    ///< since the last look for what may go
};

/// Holds a block for as long as it lives. Moves, never copies.
class BlockRef {
 public:
  BlockRef() = default;
  /// The block's `users` counts this one already.
  explicit BlockRef(Block* block) : block_(block) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  BlockRef(const BlockRef&) = delete;
  BlockRef& operator=(const BlockRef&) = delete;
  ~BlockRef() {
    if (block_ != nullptr) block_->users.fetch_sub(1, std::memory_order_release);
  }
  explicit operator bool() const { return block_ != nullptr; }
  Block& operator*() const { return *block_; }
  Block* operator->() const { return block_; }

 private:
  Block* block_ = nullptr;
};

/// All locks of a block, taken in order.
class AllExtents {
 public:
  explicit AllExtents(const Block& block) ABSL_NO_THREAD_SAFETY_ANALYSIS : block_(block) {
    for (absl::Mutex& mutex : block_.extents) mutex.Lock();
  }
  ~AllExtents() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (absl::Mutex& mutex : block_.extents) mutex.Unlock();
  }
  AllExtents(const AllExtents&) = delete;
  AllExtents& operator=(const AllExtents&) = delete;

 private:
  const Block& block_;
};

/// The blocks of a volume's map that are in memory. One that is in use, dirty or has an intent
/// stays; of the others those that were not used lately go when there are too many.
///
/// Thread-safe. Lock order: a shard's `loading`, then any `mutex`; a block's extents are locked
/// with none of these held.
class BlockCache {
 public:
  using Load = std::function<absl::StatusOr<StoredBlock>(uint64_t number)>;

  BlockCache(size_t most, Load load) : most_(most), load_(std::move(load)) {}

  /// The block if it is in memory.
  [[nodiscard]] BlockRef find(uint64_t number);
  /// The block, read from the file if need be. Blocks.
  [[nodiscard]] absl::StatusOr<BlockRef> get(uint64_t number);
  /// The block's states, without bringing it into memory: `visit` is called with a block that is
  /// in memory or, if it is not, with what the file has. Blocks.
  [[nodiscard]] absl::Status peek(uint64_t number, const std::function<void(const Block&)>& visit);
  [[nodiscard]] std::vector<BlockRef> all();

  /// There are more than there should be, and none could go: a checkpoint would free some.
  [[nodiscard]] bool is_crowded();
  [[nodiscard]] size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kShards = 64;
  struct alignas(64) Shard {
    absl::Mutex loading;  ///< held while a block comes from the file
    absl::Mutex mutex;
    absl::flat_hash_map<uint64_t, std::unique_ptr<Block>> blocks ABSL_GUARDED_BY(mutex);
  };
  Shard& shard_of(uint64_t number) { return shards_[number % kShards]; }
  /// Lets blocks go until there are few enough, as far as that is possible.
  void make_room();
  void sweep(Shard& shard);

  const size_t most_;
  const Load load_;
  std::array<Shard, kShards> shards_;
  std::atomic<size_t> size_{0};
  std::atomic<size_t> hand_{0};
};

}  // namespace blobcache::volume
