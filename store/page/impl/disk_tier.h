#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/descriptions.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_budget.h"
#include "store/page/impl/disk_calls.h"
#include "store/page/impl/io_ring.h"
#include "store/page/impl/log_limit.h"
#include "store/page/impl/open_file_table.h"
#include "store/page/impl/tier_health.h"
#include "store/page/object_key.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// The disk tier's folder and what opens files in it. KEY is 64 hex digits, ID an incarnation's 32:
///
///     objects/<2 hex>/KEY.ID        an object's data, sparse, of its exact size
///     objects/<2 hex>/KEY.ID.map    its page map, unless that is inline
///     objects/<2 hex>/KEY.ID.names  its names file, if it needs one; see Descriptions
///     tmp/ID[.map|.names]           an object, a page map or a names file under writing
///     cache/                        what sources brought; see CacheFolder
///
/// Thread-safe.
class DiskTier {
 public:
  /// Makes the folders, removes what tmp/ holds, finds out whether direct I/O works there,
  /// whether files can give a part of their blocks back, and whether they have attributes.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DiskTier>> open(
      const PageStoreOptions& options, Counters& counters);

  [[nodiscard]] std::filesystem::path object_path(const ObjectKey& key,
                                                  const Incarnation& incarnation) const;
  [[nodiscard]] std::filesystem::path cache_root() const { return path_ / "cache"; }
  [[nodiscard]] std::filesystem::path cache_path(const ObjectKey& key) const;
  [[nodiscard]] std::filesystem::path temporary_path(const Incarnation& incarnation) const;

  /// Opens a file of the tier, for direct I/O where that is in force; closes others when the
  /// process is short of descriptors. `flags` as open(2).
  [[nodiscard]] absl::StatusOr<base::UniqueFd> open_file(const std::filesystem::path& path,
                                                         int flags) const;

  /// Moves a finished object's files from tmp/ to objects/. Durable once sync_object() or
  /// sync_all() has returned; a power cut before that leaves names that no catalog knows.
  [[nodiscard]] absl::Status publish(const ObjectKey& key, const Incarnation& incarnation,
                                     bool has_map, bool has_names);
  /// Makes one object's files (`fds`; -1 is none) and their names in the folder durable: a sync
  /// each.
  [[nodiscard]] absl::Status sync_object(const ObjectKey& key, const Incarnation& incarnation,
                                         std::initializer_list<int> fds);
  [[nodiscard]] absl::Status sync_fd(int fd);
  /// Makes everything on the file system durable, other programs' files too: one sync (syncfs(2)).
  [[nodiscard]] absl::Status sync_all();
  /// Puts a page map that was made again (tmp/, open as `fd`) in the damaged one's place,
  /// durably.
  [[nodiscard]] absl::Status publish_map(const ObjectKey& key, const Incarnation& incarnation,
                                         int fd);
  /// Unlinks an object's files; one that is gone is no error.
  [[nodiscard]] absl::Status unlink(const ObjectKey& key, const Incarnation& incarnation) const;
  void unlink_temporary(const Incarnation& incarnation) const;

  /// Stores the description with an open file. False when the file system has no attributes or no
  /// room for this one.
  [[nodiscard]] absl::StatusOr<bool> set_attribute(int fd, const std::string& text) const;
  [[nodiscard]] bool has_attributes() const { return has_attributes_; }
  [[nodiscard]] Descriptions& descriptions() { return descriptions_; }

  /// Gives a range of an open file's blocks back; it reads as zeros then.
  [[nodiscard]] absl::Status punch_hole(int fd, uint64_t offset, uint64_t bytes) const;
  /// Whether this file system can do that (NFS before version 4.2 cannot).
  [[nodiscard]] bool punches_holes() const { return punches_holes_; }

  /// An object between its first byte and its catalog row is no orphan: writers say when.
  void begin_writing(const Incarnation& incarnation);
  void end_writing(const Incarnation& incarnation);
  [[nodiscard]] bool is_being_written(const Incarnation& incarnation);

  /// Every step on the disk is one of these calls or goes through the ring, whose callers tell the
  /// health of it.
  [[nodiscard]] const DiskCalls& calls() const { return calls_; }
  [[nodiscard]] TierHealth& health() { return health_; }
  /// If the disk is out of use, and has been for its pause, writes a page and removes it: so that a
  /// disk that is back is in use again though nobody asks for it. Blocks.
  void try_again();
  /// Logs a failure of the disk: a line a second at most, with how many were left out.
  void log_failure(std::string_view line);
  [[nodiscard]] OpenFileTable& open_files() { return open_files_; }
  [[nodiscard]] IoRing& ring() { return *ring_; }
  [[nodiscard]] DiskBudget& budget() { return budget_; }
  [[nodiscard]] const DiskBudget& budget() const { return budget_; }
  [[nodiscard]] Counters& counters() { return counters_; }

 private:
  DiskTier(const PageStoreOptions& options, Counters& counters);

  [[nodiscard]] absl::Status make_folders();
  [[nodiscard]] absl::Status probe_direct_io(DirectIo wanted);
  [[nodiscard]] absl::Status probe_holes();
  [[nodiscard]] absl::Status probe_attributes();
  /// Syncs a directory, so that names made or removed in it are durable.
  [[nodiscard]] absl::Status sync_directory(const std::filesystem::path& path);
  /// Unlinks a file; one that is gone is no error.
  [[nodiscard]] absl::Status unlink_file(const std::filesystem::path& path) const;

  const std::filesystem::path path_;
  Counters& counters_;
  DiskBudget budget_;
  bool direct_ = false;
  bool punches_holes_ = false;
  bool has_attributes_ = true;
  TierHealth health_;
  const DiskCalls calls_;
  LogLimit failures_logged_;
  mutable OpenFileTable open_files_;
  base::UniqueFd root_;
  std::unique_ptr<IoRing> ring_;
  Descriptions descriptions_{*this};
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> writing_ ABSL_GUARDED_BY(mutex_);  ///< incarnations, hex
};

}  // namespace blobcache::page
