#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// The accounts of the disk tier: bytes of objects that are kept or cached and of pages that
/// sources brought ("filled"), against the budget; and what the file system must always have free,
/// in bytes and in inodes. Bytes are reserved before they are written, so the budget is never
/// passed.
///
/// Thread-safe. Calls the reclaimers with no lock of the accounts held.
class DiskBudget {
 public:
  DiskBudget(std::filesystem::path path, uint64_t budget_bytes, uint64_t reserve_bytes)
      : path_(std::move(path)), budget_bytes_(budget_bytes), reserve_bytes_(reserve_bytes) {}

  /// Takes `bytes` for an object of this retention; asks the reclaimer for cached objects when they
  /// do not fit. RESOURCE_EXHAUSTED, with the figures, when they still do not; nothing is taken
  /// then.
  [[nodiscard]] absl::Status reserve(uint64_t bytes, Retention retention);
  /// RESOURCE_EXHAUSTED when an object's files would use up the inodes that the reserve keeps free.
  /// Looks only: inodes have no accounts.
  [[nodiscard]] absl::Status check_inodes();
  /// `bytes` of what reserve() took are on the disk now, or will not come: until then they count
  /// against the reserve as well, which the file system does not know of.
  void settled(uint64_t bytes);
  /// Gives back what reserve() took, or what a removed object used.
  void release(uint64_t bytes, Retention retention);
  /// Sets the accounts to what earlier runs left on the disk.
  void restore(uint64_t kept_bytes, uint64_t cached_bytes);
  void change(Retention from, Retention to, uint64_t bytes);
  void set_reclaimer(DiskReclaimer* reclaimer);

  /// Takes `bytes` for pages that a source brought. False, with nothing taken, when they do not
  /// fit; asks no reclaimer.
  [[nodiscard]] bool take_fill(uint64_t bytes);
  void release_fill(uint64_t bytes);
  /// What earlier runs left of such pages is being counted: reserve() waits until it is known.
  void await_fills();
  void fills_known();
  /// More or less is on the disk than was taken for it; whether it fits is not asked.
  void correct_fill(int64_t bytes);
  /// Gives up filled pages; asked before the other reclaimer, since those can be had again.
  void set_fill_reclaimer(DiskReclaimer* reclaimer);
  /// Gives up expired blobs of about `bytes`, unless somebody is being given room just now.
  void reclaim_blobs(uint64_t bytes);
  /// Whether there are inodes for `files` more beside the reserve. Asks no reclaimer.
  [[nodiscard]] bool inodes_left(uint64_t files) const;
  /// How many bytes the file system lacks for `bytes` more beside the reserve; 0 when they fit.
  [[nodiscard]] uint64_t short_of_space(uint64_t bytes) const ABSL_LOCKS_EXCLUDED(mutex_);

  struct Usage {
    uint64_t budget = 0;
    uint64_t used = 0;
    uint64_t kept = 0;
    uint64_t filled = 0;
    uint64_t reserve = 0;
    uint64_t free = 0;  ///< of the file system, for us
  };
  [[nodiscard]] Usage usage() const;

 private:
  [[nodiscard]] bool take(uint64_t bytes, Retention retention);
  [[nodiscard]] bool fits(uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t reclaim(uint64_t bytes);
  [[nodiscard]] bool reclaim_files();

  const std::filesystem::path path_;
  const uint64_t budget_bytes_;
  const uint64_t reserve_bytes_;
  mutable absl::Mutex mutex_;
  uint64_t kept_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t cached_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t filled_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t unsettled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool fills_known_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Mutex reclaimer_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  ///< held while the reclaimer works
  DiskReclaimer* reclaimer_ ABSL_GUARDED_BY(reclaimer_mutex_) = nullptr;
  DiskReclaimer* fill_reclaimer_ ABSL_GUARDED_BY(reclaimer_mutex_) = nullptr;
};

/// How a file system stands. Value type.
struct FileSystemState {
  uint64_t bytes = 0;
  uint64_t inodes = 0;       ///< 0 on one that knows no limit (btrfs)
  uint64_t free_inodes = 0;  ///< for us
};

/// Whether `state` has inodes for `wanted` more files beside the same share of them that
/// `reserve_bytes` is of its bytes. Pure.
[[nodiscard]] bool has_inodes(const FileSystemState& state, uint64_t reserve_bytes,
                              uint64_t wanted);

}  // namespace blobcache::page
