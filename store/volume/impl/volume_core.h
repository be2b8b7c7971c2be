#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/geometry.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/page/page_map.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/cut_state.h"
#include "store/volume/impl/file_calls.h"
#include "store/volume/impl/file_length.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/journal.h"
#include "store/volume/impl/map_file.h"
#include "store/volume/impl/space_charge.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// The open files of a volume. Moves.
struct VolumeFiles {
  base::UniqueFd header;
  base::UniqueFd data;
  base::UniqueFd map;      ///< of a file volume perhaps none; MapFile takes it
  base::UniqueFd journal;  ///< of a file volume none: it is in `header`
};

/// Where a volume's file is.
[[nodiscard]] std::filesystem::path file_of(const VolumeOptions& options, std::string_view name);
/// The folder that it is in.
[[nodiscard]] std::filesystem::path folder_of(const VolumeOptions& options);

/// What counts on the fast path, a cache line for every eighth extent.
struct alignas(64) VolumeCounters {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> bytes_read{0};
  std::atomic<uint64_t> bytes_written{0};
  std::atomic<uint64_t> waits{0};
};

/// What the parts of an open volume share. Each part changes what is its own; see there.
///
/// Lock order: FileCleaner's, Checkpointer's, an extent's (or all of a block, in order), the
/// length's, then `header_mutex`, `cut_mutex` and the journal's, none of which is held while
/// another lock is taken.
struct VolumeCore {
  VolumeCore(const VolumeOptions& volume_options, const Header& volume_header, VolumeFiles opened);
  ~VolumeCore() = default;
  VolumeCore(const VolumeCore&) = delete;
  VolumeCore& operator=(const VolumeCore&) = delete;

  const VolumeOptions options;
  const page::Incarnation incarnation;
  const bool is_file;  ///< else an image
  VolumeFiles files;   ///< without the map
  const FileCalls calls;
  SpaceCharge charge;
  std::atomic<uint64_t> data_pages{0};  ///< of its own; known once it is recovered
  std::atomic<uint64_t> checkpoint;     ///< the last one that was completed

  HeaderFile header_file;
  MapFile map;
  Journal journal;
  FileLength length;
  BlockCache cache;

  absl::Mutex header_mutex;
  Header header ABSL_GUARDED_BY(header_mutex);  ///< as the file has it

  std::atomic<bool> closed{false};  ///< set under operations_mutex_

  absl::Mutex cut_mutex;
  std::shared_ptr<CutState> cut ABSL_GUARDED_BY(cut_mutex);
  std::atomic<uint32_t> cut_epoch{0};  ///< 0: there is none
  uint32_t last_epoch ABSL_GUARDED_BY(cut_mutex) = 0;

  std::array<VolumeCounters, 8> counters;
  std::atomic<uint64_t> flushes{0};
  std::atomic<uint64_t> syncs{0};
  std::atomic<uint64_t> checkpoints{0};
  std::atomic<uint64_t> damaged_pages{0};
  std::atomic<uint64_t> intent_blocks{0};
  uint64_t rechecked_pages = 0;  ///< by recovery, before anyone else looks
  bool recovered = false;

  /// OK, or why the volume takes no more writes.
  [[nodiscard]] absl::Status usable() const;
  /// The same, of a volume that is perhaps being closed.
  [[nodiscard]] absl::Status failure() const;
  /// The volume takes no more writes; see Volume.
  void fail(const absl::Status& why);
  /// OUT_OF_RANGE, or why the volume is of no use.
  [[nodiscard]] absl::Status check_range(uint64_t offset, uint64_t bytes) const;
  /// The same, of what a change may be: a file ends where it must not be longer.
  [[nodiscard]] absl::Status check_change(uint64_t offset, uint64_t bytes) const;

  /// Who wrote or punched pages says so, before he answers.
  void note_unsynced() {
    if (!unsynced_.load()) unsynced_.store(true);
  }
  /// Makes all pages durable that were written before. What fails makes the volume fail.
  [[nodiscard]] absl::Status sync_data();
  [[nodiscard]] absl::Status sync_journal();

  [[nodiscard]] std::shared_ptr<CutState> active_cut();
  [[nodiscard]] absl::StatusOr<std::shared_ptr<CutState>> begin_cut();
  void end_cut();

  [[nodiscard]] VolumeCounters& counters_of(uint64_t offset) {
    return counters.at((offset >> page::kExtentShift) % counters.size());
  }
  [[nodiscard]] absl::StatusOr<BlockRef> block_at(uint64_t offset) {
    return cache.get(page::map_block_of(offset >> page::kExtentShift));
  }

  /// An operation that is not over when the call that began it returns. FAILED_PRECONDITION when
  /// the volume is closed; one that has begun comes to its end first.
  [[nodiscard]] absl::Status begin_operation();
  void end_operation();
  /// False when somebody else has closed it. Else no operation is under way and none will be.
  [[nodiscard]] bool close_for_operations();

 private:
  /// Pages were written or punched since the last sync of `data` began.
  std::atomic<bool> unsynced_{false};
  absl::Mutex sync_mutex_;  ///< held while `data` is synced
  std::atomic<bool> failed_{false};
  mutable absl::Mutex failure_mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(failure_mutex_);
  absl::Mutex operations_mutex_;
  uint64_t operations_ ABSL_GUARDED_BY(operations_mutex_) = 0;
};

/// The pages of an extent that a base has, at least in part, of which `base_bytes` are seen.
[[nodiscard]] constexpr page::PageMask base_pages(uint64_t extent, uint64_t base_bytes) {
  if (extent << page::kExtentShift >= base_bytes) return 0;
  return page::pages_of_extent(extent, base_bytes);
}

/// The size of the file `data` of an image: whole pages, as the last one is written whole.
[[nodiscard]] constexpr uint64_t data_file_bytes(uint64_t size_bytes) {
  return page::page_count(size_bytes) << page::kPageShift;
}

}  // namespace blobcache::volume
