#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/page_store.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/impl/file_volumes.h"
#include "store/tree/impl/volume_set.h"

namespace blobcache::tree {

/// Keeps the store within its budget: turns blobs that have had no name for `unnamed_ttl` from kept
/// to cached, gives up cached ones when the disk tier asks, and removes what a crash left behind.
///
/// A blob's time runs from its put or, if it had a name, from the moment it lost its last one.
/// Expiry is looked for whenever it matters (a put, a reclaim, a count) and now and then by a
/// thread of its own, which removes the orphans first: they are found file by file, which must not
/// delay a start. That thread also makes the ballast again, if a full disk took it.
///
/// Thread-safe. Becomes the store's reclaimer when it is made and ceases to be when it is
/// destroyed. What it is given must outlive it.
class Housekeeper final : public page::DiskReclaimer {
 public:
  using Clock = std::function<absl::Time()>;
  struct Timing {
    absl::Duration unnamed_ttl;
    Clock clock;
  };

  struct AllVolumes {
    VolumeSet& named;
    FileVolumes& of_files;
  };

  Housekeeper(Catalog& catalog, page::PageStore& store, EditRunner& edits, Ballast& ballast,
              const AllVolumes& volumes, Timing timing);
  ~Housekeeper() override;
  Housekeeper(const Housekeeper&) = delete;
  Housekeeper& operator=(const Housekeeper&) = delete;

  /// Turns what has expired by now from kept to cached. One look-up when nothing has.
  [[nodiscard]] absl::Status expire();

  uint64_t reclaim_files(uint64_t files) override;
  uint64_t reclaim(uint64_t bytes) override;

 private:
  /// So many blobs are given up in one transaction.
  static constexpr size_t kReclaimBatch = 128;

  void work();
  void remove_orphans();
  void tell_moved();
  void remove_orphan_volumes();
  [[nodiscard]] bool stopping() ABSL_LOCKS_EXCLUDED(mutex_);

  Catalog& catalog_;
  page::PageStore& store_;
  EditRunner& edits_;
  Ballast& ballast_;
  const AllVolumes volumes_;
  const absl::Duration unnamed_ttl_;
  const Clock clock_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace blobcache::tree
