#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/frame_pool.h"
#include "store/page/impl/cache_evictor.h"
#include "store/page/impl/cache_folder.h"
#include "store/page/impl/cache_state.h"
#include "store/page/impl/cache_writer.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// Keeps on disk what sources bring, page by page, for as long as the disk budget has room.
///
/// What a fetch has brought waits in a line, pinned in memory, until the cache's thread has written
/// it: first the data, then the page map, without a sync. So after a kill, or a power cut, a page
/// is there with a checksum that matches or is not there. The line is bounded; what comes while it
/// is full stays in memory only, so that a slow disk never holds up a source.
///
/// Extents go one by one, as the eviction policy says, when the budget or the file system needs
/// room: first from the map, then their blocks are given back. An extent that a fetch is working on
/// stays, and so does one of a pinned object. An object of which nothing is left loses its files.
///
/// Thread-safe. Only the cache's thread changes files and page maps of cached objects.
class DiskCache final : public DiskReclaimer {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DiskCache>> create(
      const PageStoreOptions& options, DiskTier& disk, ObjectTable& objects);
  ~DiskCache() override;
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;

  using Leases = absl::flat_hash_map<ObjectKey, std::shared_ptr<const void>>;
  /// Begins to count what earlier runs left, and then to work. `core` outlives the cache. Returns
  /// the leases of what is lent already, of which nothing goes.
  [[nodiscard]] Leases start(StoreCore& core, const std::vector<LentObject>& lent);
  /// Writes what waits and ends the thread. Nothing is cached any more.
  void stop();

  /// As PageStore::attach_cached.
  [[nodiscard]] std::shared_ptr<ObjectImpl> attach(const CachedSpec& spec)
      ABSL_LOCKS_EXCLUDED(state_.mutex);
  /// As PageStore::pin_cached and forget_cached.
  void pin(const ObjectKey& key, bool pinned) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void forget(const ObjectKey& key) ABSL_LOCKS_EXCLUDED(state_.mutex);
  /// Waits until all that came before is written or given up.
  void wait_idle() ABSL_LOCKS_EXCLUDED(state_.mutex);

  /// Pages of an extent have come from the source and are final in the frame that the caller has
  /// pinned. Does not block.
  void fill(std::shared_ptr<ObjectImpl> object, uint64_t extent, Pin pin, PageMask pages)
      ABSL_LOCKS_EXCLUDED(state_.mutex);
  /// An extent was read from disk.
  void use(const ObjectImpl& object, uint64_t extent) ABSL_LOCKS_EXCLUDED(state_.mutex);

  /// All that is on disk of the object was read, for all that is known.
  void use_all(const ObjectImpl& object) ABSL_LOCKS_EXCLUDED(state_.mutex);

  /// Gives up extents until about `bytes` are free; waits for the cache's thread.
  uint64_t reclaim(uint64_t bytes) override ABSL_LOCKS_EXCLUDED(state_.mutex);
  /// Gives up whole objects that nobody has open, the longest unused first, until about `files` of
  /// their files are gone; waits for the cache's thread. Returns the files that went.
  uint64_t reclaim_files(uint64_t files) override ABSL_LOCKS_EXCLUDED(state_.mutex);

  [[nodiscard]] uint64_t extents() const ABSL_LOCKS_EXCLUDED(state_.mutex);

 private:
  using Task = absl::AnyInvocable<void()>;

  DiskCache(const PageStoreOptions& options, DiskTier& disk, ObjectTable& objects);

  void run();
  [[nodiscard]] std::shared_ptr<ObjectImpl> attach(CachedFile& file, const CachedSpec& spec)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  /// Into the line; false when it is full.
  [[nodiscard]] bool enter(std::shared_ptr<ObjectImpl> object, uint64_t extent, Pin pin,
                           PageMask pages) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  [[nodiscard]] bool has_work() const ABSL_SHARED_LOCKS_REQUIRED(state_.mutex);
  [[nodiscard]] std::vector<Fill> take_fills() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void run_tasks() ABSL_LOCKS_EXCLUDED(state_.mutex);
  /// False when the thread has ended.
  bool post(Task task) ABSL_LOCKS_EXCLUDED(state_.mutex);

  // The cache's thread only, from here on.
  void count_what_is_there();
  /// Gives up more for whoever waits in reclaim(). Until all is counted that may have to wait.
  struct Reclaim;
  void go_on(Reclaim& reclaim);
  void count_file(const CacheFolder::Found& found);
  void write(std::vector<Fill>& fills);
  /// Keeps some of the budget free, so that puts seldom wait for evictions, and the reserve of the
  /// file system, which others write to as well.
  void keep_headroom();
  /// Gives up what was not used for long, and the files of what is empty. Looks whether a disk that
  /// is out of use is back.
  void sweep();

  CacheState state_;
  CacheEvictor evictor_;
  CacheWriter writer_;
  const uint64_t headroom_bytes_;
  const uint64_t round_bytes_;
  const uint64_t line_bytes_;
  const size_t line_fills_;
  const absl::Duration ttl_;
  const std::function<absl::Time()> clock_;
  const absl::Duration sweep_pause_;
  absl::Time next_sweep_;
  bool counting_ = false;           ///< the thread's: not all that is there is known yet
  std::vector<Reclaim*> short_of_;  ///< the thread's: who waits until it is

  std::deque<Fill> fills_ ABSL_GUARDED_BY(state_.mutex);
  // Also of what is being written.
  uint64_t line_used_bytes_ ABSL_GUARDED_BY(state_.mutex) = 0;
  size_t line_used_fills_ ABSL_GUARDED_BY(state_.mutex) = 0;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(state_.mutex);
  absl::flat_hash_set<ObjectKey> pinned_ ABSL_GUARDED_BY(state_.mutex);
  bool busy_ ABSL_GUARDED_BY(state_.mutex) = false;
  bool ending_ ABSL_GUARDED_BY(state_.mutex) = true;  ///< also before start()
  std::thread thread_;
};

}  // namespace blobcache::page
