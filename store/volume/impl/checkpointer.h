#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_map.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// Brings the map in memory to the disk, and says beforehand, in the journal, which blocks will be
/// written to.
///
/// A checkpoint, in this order: the number of the next record is noted; of each block that changed
/// a copy is taken, under its locks; the data is synced, so that the copies tell of nothing that is
/// not on disk; the copies are written over the older ones of the file and synced; the intents that
/// go on are told again; the header, with the noted number, makes it valid. Whatever stops it
/// before that leaves what the checkpoint before it had, and the journal since.
///
/// Thread-safe; all of it blocks.
class Checkpointer {
 public:
  explicit Checkpointer(VolumeCore& core) : core_(core) {}

  /// Which blocks may still be written to without telling the journal anew.
  enum class Intents : uint8_t {
    kKeepUsed,  ///< those that were written to since the last checkpoint; none of a file
    kClear,
    kClose,  ///< none, and none will be
  };
  [[nodiscard]] absl::Status run(Intents intents);
  /// Runs one unless the journal has room for states meanwhile.
  [[nodiscard]] absl::Status make_room();

  /// Tells the journal, durably, that the block will be written to; and, where the block before it
  /// is being written to, the next few as well, since those come next. Of a file not durably, and
  /// only of this block: for a kill. After a power cut all of its pages are doubtful.
  [[nodiscard]] absl::Status mark_intent(const BlockRef& block);

  /// Whether one should be run in the background, and nobody has been told so yet.
  [[nodiscard]] bool wants_to_run();
  void run_in_background();

 private:
  struct Image {
    Block* block = nullptr;
    page::MapBlock states;
    uint64_t data_pages = 0;
  };
  struct Plan {
    uint64_t start = 0;        ///< of the journal, when it is done
    FileLength::Value length;  ///< when that was noted
    bool closes = false;
    std::vector<BlockRef> blocks;
    std::vector<Image> images;
    /// By 64 blocks; see Record::Kind::kIntent.
    absl::btree_map<uint32_t, uint64_t> kept_intents;
  };

  [[nodiscard]] absl::Status run_locked(Intents intents) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] Plan take_images(Intents intents);
  [[nodiscard]] absl::Status write(const Plan& plan);
  [[nodiscard]] absl::Status write_header(const Plan& plan);
  [[nodiscard]] absl::Status mark(const std::vector<const BlockRef*>& blocks);

  VolumeCore& core_;
  /// One checkpoint at a time. Before `marking_`.
  absl::Mutex mutex_;
  /// A reader tells intents; the writer takes images. So an intent is either in the journal after
  /// the number that the checkpoint notes, or in the block when its image is taken. Before the
  /// locks of extents.
  absl::Mutex marking_;
  std::atomic<bool> asked_{false};
};

}  // namespace blobcache::volume
