#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/tree/impl/catalog.h"
#include "store/volume/space_budget.h"
#include "store/volume/volume.h"
#include "store/volume/workers.h"

namespace blobcache::tree {

/// The volumes that files under writing are, in the store's folder `writing/`: two or three files
/// for each, called by its incarnation in hex. They are made without a sync, before the catalog's
/// row that tells whose they are, and removed after it is gone, durably: a power cut that brings
/// the row back must find them. What a kill leaves is files without a row, which the next start
/// removes.
///
/// Thread-safe. What it is given must outlive it, and it the volumes that it gives.
class FileVolumes {
 public:
  /// What all volumes of a store share.
  struct Shared {
    volume::Workers& workers;
    volume::SpaceBudget& budget;
  };

  /// `handed` are those of the process before that no row knows; they are to be opened.
  FileVolumes(Catalog& catalog, const std::filesystem::path& store, const Shared& shared,
              const std::vector<page::Incarnation>& handed)
      : catalog_(catalog), folder_(store / "writing"), shared_(shared) {
    for (const page::Incarnation& incarnation : handed) ours_[incarnation.hex()] = {.open = true};
  }
  /// Removes what is to be removed.
  ~FileVolumes();
  FileVolumes(const FileVolumes&) = delete;
  FileVolumes& operator=(const FileVolumes&) = delete;

  /// The incarnations of all that have files in a store's `writing/`, in order. What is called
  /// otherwise is not ours.
  [[nodiscard]] static std::vector<page::Incarnation> find_all(const std::filesystem::path& folder);

  /// Makes the folder that all of them are in. Once, before any other call.
  [[nodiscard]] absl::Status begin();

  /// A new one that shows `base`, or no bytes at all (null), called `incarnation`.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Volume>> create(
      const page::Incarnation& incarnation, page::ObjectRef base) ABSL_LOCKS_EXCLUDED(mutex_);
  /// The same in the place of one of which open() found nothing.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Volume>> create_again(
      const page::Incarnation& incarnation, page::ObjectRef base) ABSL_LOCKS_EXCLUDED(mutex_) {
    remove_files(incarnation);
    return create(incarnation, std::move(base));
  }
  /// One that is there. NOT_FOUND and DATA_LOSS as Volume::open: also of one that a power cut took.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Volume>> open(
      const page::Incarnation& incarnation, page::ObjectRef base) ABSL_LOCKS_EXCLUDED(mutex_);
  /// When its content was last written to, as its file has it.
  [[nodiscard]] absl::Time modified(const page::Incarnation& incarnation) const;
  /// Has the files removed soon, in the background, or, while somebody holds the volume, who can go
  /// on, after he has let go of it; and not before what the catalog was told by now is durable.
  /// What cannot be removed is logged, and tried again by the next start.
  void remove(const page::Incarnation& incarnation) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Removes now what is to be removed soon. False when there was nothing.
  bool remove_now() ABSL_LOCKS_EXCLUDED(mutex_, removing_mutex_);

  /// Leaves what is to be removed to the next start, which finds it as after a kill: another
  /// process waits for the end of this one.
  void leave_rest() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Removes those that no row of the catalog knows. Returns how many.
  [[nodiscard]] absl::StatusOr<uint64_t> remove_orphans() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct State {
    bool open = false;
    bool doomed = false;  ///< its files go when it is not open any more
  };

  /// `opened`, which tells us when nobody has it any more.
  [[nodiscard]] std::shared_ptr<volume::Volume> hand_out(const page::Incarnation& incarnation,
                                                         std::shared_ptr<volume::Volume> opened);
  void let_go(const page::Incarnation& incarnation, std::shared_ptr<volume::Volume> opened)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void bury(const page::Incarnation& incarnation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void work() ABSL_LOCKS_EXCLUDED(mutex_, removing_mutex_);
  void remove_files(const page::Incarnation& incarnation) const;
  void forget(const page::Incarnation& incarnation) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] volume::VolumeOptions options_for(const page::Incarnation& incarnation,
                                                  page::ObjectRef base) const;

  Catalog& catalog_;
  const std::filesystem::path folder_;
  const Shared shared_;

  absl::Mutex removing_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  ///< held while files are removed
  absl::Mutex mutex_;
  /// Of this process, with a row or not yet: no orphans.
  absl::flat_hash_map<std::string, State> ours_ ABSL_GUARDED_BY(mutex_);
  std::vector<page::Incarnation> buried_ ABSL_GUARDED_BY(mutex_);  ///< their files are to go
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> leaves_rest_{false};
  std::thread remover_;  ///< begun by begin()
};

}  // namespace blobcache::tree
