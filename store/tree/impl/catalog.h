#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/impl/catalog_log.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/sqlite.h"
#include "store/tree/impl/write_queue.h"

namespace blobcache::tree {

/// The catalog file: one connection that writes (through WriteQueue), a few that read. In WAL mode
/// a reader never waits for the writer nor the writer for readers; a reader sees whole transactions
/// only.
///
/// Thread-safe. One process at a time: the caller holds the store's lock.
class Catalog {
 public:
  static constexpr size_t kReaders = 8;

  /// A reader for one thread for as long as this lives; waits while all are in use. Keep it for a
  /// few look-ups, never across I/O of another kind, and never take a second one meanwhile.
  class Lease {
   public:
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    CatalogReader* operator->() { return &reader_; }
    CatalogReader& operator*() { return reader_; }

    /// From here to the lease's end all look-ups see the catalog at one moment.
    [[nodiscard]] absl::Status freeze();

   private:
    friend class Catalog;
    Lease(Catalog& catalog, std::unique_ptr<Database> database);

    Catalog& catalog_;
    std::unique_ptr<Database> database_;
    CatalogReader reader_;
    bool frozen_ = false;
  };

  /// Opens `file` or makes it, and upgrades an older version. Errors as check_schema() has them,
  /// and DATA_LOSS when there is no catalog though `objects` (where the page store keeps its files)
  /// has files: an empty catalog would make orphans of them all. Nothing is changed then.
  /// `ended_cleanly`: who had it open before us closed it.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Catalog>> open(
      const std::filesystem::path& file, const std::filesystem::path& objects,
      WriteQueue::SyncObjects sync_objects = nullptr, bool ended_cleanly = true);

  /// Whether a daemon had it open before and closed it, or it is new: not after a kill or a
  /// rebuild.
  [[nodiscard]] bool was_closed() const { return was_closed_; }

  /// Whether what the catalog does not know may be taken for what nobody knows: DATA_LOSS, with
  /// what to do, when its write-ahead log was lost or damaged, so that commits may be missing, or
  /// when its file is damaged. The first call reads all of it.
  [[nodiscard]] absl::Status vouch() ABSL_LOCKS_EXCLUDED(vouch_mutex_, mutex_);

  [[nodiscard]] Lease read() ABSL_LOCKS_EXCLUDED(mutex_);
  /// As WriteQueue::run.
  [[nodiscard]] absl::Status write(WriteQueue::Apply apply, WriteQueue::Committed committed,
                                   page::ObjectWriter* object = nullptr,
                                   Durability durability = Durability::kNow);
  /// As WriteQueue::sync.
  [[nodiscard]] absl::Status sync() { return queue_.sync(); }

 private:
  Catalog(std::unique_ptr<Database> writer, std::unique_ptr<CatalogLog> log,
          WriteQueue::SyncObjects sync_objects, std::filesystem::path file, bool was_closed);
  void give_back(std::unique_ptr<Database> database) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::filesystem::path file_;
  const std::unique_ptr<Database> writer_;
  const std::unique_ptr<CatalogLog> log_;
  WriteQueue queue_;
  const bool was_closed_;
  absl::Mutex vouch_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::optional<absl::Status> vouched_ ABSL_GUARDED_BY(vouch_mutex_);
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Database>> idle_readers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
