#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_budget.h"
#include "store/page/impl/disk_health.h"
#include "store/page/impl/io_ring.h"
#include "store/page/impl/open_file_table.h"
#include "store/page/object_key.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// The disk tier's folder and what opens files in it. KEY is 64 hex digits, ID an incarnation's 32:
///
///     objects/<2 hex>/KEY.ID        an object's data, sparse, of its exact size
///     objects/<2 hex>/KEY.ID.map    its page map, unless that is inline
///     tmp/ID[.map]                  an object under writing
///
/// Thread-safe.
class DiskTier {
 public:
  /// Makes the folders, removes what tmp/ holds, finds out whether direct I/O works there.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DiskTier>> open(
      const PageStoreOptions& options, Counters& counters);

  [[nodiscard]] std::filesystem::path object_path(const ObjectKey& key,
                                                  const Incarnation& incarnation) const;
  [[nodiscard]] std::filesystem::path temporary_path(const Incarnation& incarnation) const;

  /// Opens a file of the tier, for direct I/O where that is in force. `flags` as open(2).
  [[nodiscard]] absl::StatusOr<base::UniqueFd> open_file(const std::filesystem::path& path,
                                                         int flags) const;

  /// Moves a finished object's files from tmp/ to objects/. Durable once sync_object() or
  /// sync_all() has returned; a power cut before that leaves names that no catalog knows.
  [[nodiscard]] absl::Status publish(const ObjectKey& key, const Incarnation& incarnation,
                                     bool has_map);
  /// Makes one object's files (open as `data` and `map`, which is -1 for none) and their names
  /// durable: two or three syncs.
  [[nodiscard]] absl::Status sync_object(const ObjectKey& key, const Incarnation& incarnation,
                                         int data, int map);
  /// Makes everything on the file system durable, other programs' files too: one sync (syncfs(2)).
  [[nodiscard]] absl::Status sync_all();
  /// Puts a page map that was made again (tmp/, open as `fd`) in the damaged one's place,
  /// durably.
  [[nodiscard]] absl::Status publish_map(const ObjectKey& key, const Incarnation& incarnation,
                                         int fd);
  /// Unlinks an object's files; one that is gone is no error.
  [[nodiscard]] absl::Status unlink(const ObjectKey& key, const Incarnation& incarnation) const;
  void unlink_temporary(const Incarnation& incarnation) const;

  /// As PageStore::describe.
  [[nodiscard]] absl::Status describe(const ObjectKey& key, const Incarnation& incarnation,
                                      const std::string& description) const;

  /// As PageStore::remove_orphans.
  [[nodiscard]] absl::StatusOr<uint64_t> remove_orphans(
      const std::function<bool(const ObjectKey&, const Incarnation&)>& known);

  /// An object between its first byte and its catalog row is no orphan: writers say when.
  void begin_writing(const Incarnation& incarnation);
  void end_writing(const Incarnation& incarnation);

  [[nodiscard]] DiskHealth& health() { return health_; }
  /// Counts the outcome of a step, a negative errno value or not, and tells the health of it.
  void judge(int result);
  [[nodiscard]] OpenFileTable& open_files() { return open_files_; }
  [[nodiscard]] IoRing& ring() { return *ring_; }
  [[nodiscard]] DiskBudget& budget() { return budget_; }
  [[nodiscard]] const DiskBudget& budget() const { return budget_; }
  [[nodiscard]] Counters& counters() { return counters_; }

 private:
  DiskTier(const PageStoreOptions& options, Counters& counters);

  [[nodiscard]] absl::Status make_folders();
  [[nodiscard]] absl::Status probe_direct_io(DirectIo wanted);
  [[nodiscard]] bool is_being_written(const Incarnation& incarnation);

  const std::filesystem::path path_;
  Counters& counters_;
  DiskBudget budget_;
  bool direct_ = false;
  [[nodiscard]] absl::Status sync_fd(int fd);

  const DiskFault fault_;
  DiskHealth health_;
  mutable OpenFileTable open_files_;
  base::UniqueFd root_;
  std::unique_ptr<IoRing> ring_;
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> writing_ ABSL_GUARDED_BY(mutex_);  ///< incarnations, hex
};

/// Syncs a directory, so that names made or removed in it are durable. Counts as one sync.
[[nodiscard]] absl::Status sync_directory(const std::filesystem::path& path, Counters& counters);

}  // namespace blobcache::page
