#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "store/page/content_hash.h"
#include "store/page/descriptions.h"
#include "store/page/eviction.h"
#include "store/page/leftover.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/page/object_writer.h"
#include "store/page/scrub.h"
#include "store/page/stats.h"

namespace blobcache::page {

enum class DirectIo : uint8_t { kAuto, kOn, kOff };

/// One step of the disk tier's I/O, before it is taken. Value type.
struct DiskStep {
  enum class Kind : uint8_t {
    kRead,
    kWrite,
    kSync,
    kPunchHole,
    kOpen,    ///< of what is there
    kCreate,  ///< a file that is perhaps there already
    kMakeFolder,
    kRename,
    kUnlink,
    kTruncate,   ///< `bytes` is the new size
    kAttribute,  ///< is set, `bytes` long, or removed (0)
  };
  Kind kind = Kind::kRead;
  uint64_t offset = 0;  ///< of reads, writes and holes, as `bytes`
  uint64_t bytes = 0;
};

/// What a test makes of a step: 0 to take it, a negative errno value to fail it in its place, or
/// for a read or write how many bytes of it to move at first. Called by any thread.
using DiskFault = std::function<int(const DiskStep& step)>;

/// Reading ahead; see Readahead. Value type.
struct PrefetchOptions {
  bool enabled = false;
  uint64_t max_window_bytes = uint64_t{64} << 20;  ///< of one stream, at most
  /// On their way or unread, over all streams; a quarter of the memory at most.
  uint64_t budget_bytes = uint64_t{256} << 20;
  /// A reader for whom something was brought and who has not come for so long has stopped.
  absl::Duration stale_after = absl::Seconds(5);
};

/// A cached object whose file another process had lent. Value type.
struct LentObject {
  ObjectKey key;
  uint64_t size_bytes = 0;
};

struct PageStoreOptions {
  std::filesystem::path path;                 ///< must exist; objects/ and tmp/ are made beneath it
  uint64_t memory_bytes = uint64_t{1} << 30;  ///< L0 budget; at least kMinMemory
  uint64_t disk_bytes = uint64_t{50} << 30;   ///< L1 budget
  uint64_t disk_reserve_bytes = 0;            ///< of the file system, never used
  DirectIo direct_io = DirectIo::kAuto;
  std::string eviction{kDefaultEvictionPolicy};  ///< see eviction.h for the names
  PrefetchOptions prefetch;
  /// Cached objects that nobody opened or read from disk for so long lose their pages on disk.
  absl::Duration cached_ttl = absl::InfiniteDuration();
  std::function<absl::Time()> clock;  ///< for cached_ttl; absent: the system's; any thread calls it
  /// Cached objects whose files were lent by the process before, and are still used: nothing is
  /// taken out of them; see PageStore::take_lease.
  std::vector<LentObject> lent;
  /// What keys are made of; with it a damaged page map is made again from its object's file.
  ContentHashFactory content_hash;
  DiskFault disk_fault;  ///< for tests of what follows from failing disks; absent in earnest
  /// Tells how long a disk that failed was left alone; for tests. Called by any thread.
  std::function<absl::Time()> disk_clock = absl::Now;
};

/// Decides which cached objects go when the disk tier needs room. Implemented by whoever knows the
/// names (store/tree). Called from any thread, with no lock of the store held.
class DiskReclaimer {
 public:
  virtual ~DiskReclaimer() = default;
  /// Gives up cached objects (through PageStore::remove) until about `bytes` are free or none is
  /// left. Returns the bytes given up.
  virtual uint64_t reclaim(uint64_t bytes) = 0;
  /// The same until about `files` files are gone. Returns how many were given up.
  virtual uint64_t reclaim_files(uint64_t files) = 0;
};

/// An object that is in use and its open files, for the process that takes the store over, where it
/// stays readable though its files may have lost their names. Moves, never copies.
struct HeldObject {
  ObjectSpec spec;      ///< without its source
  base::UniqueFd data;  ///< invalid, as `map`, when there was none to be opened
  base::UniqueFd map;
};

/// The page store: RAM frames over disk files over sources, for objects that it knows by key and
/// incarnation. It knows no names; store/tree does.
///
/// Thread-safe. Destroying it ends its threads; all ObjectRefs, PinnedRanges and ObjectWriters must
/// be gone.
class PageStore {
 public:
  static constexpr uint64_t kMinMemory = uint64_t{8} << 20;

  /// Opens the disk tier under options.path and removes unfinished files. INVALID_ARGUMENT for
  /// options out of range, FAILED_PRECONDITION when direct I/O is demanded and not to be had, else
  /// the disk's error.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<PageStore>> open(
      const PageStoreOptions& options);

  virtual ~PageStore() = default;

  /// The object with this key and incarnation: the one in use already, or a new one made from
  /// `spec`. Touches no disk; a missing or damaged file shows at the first read.
  [[nodiscard]] virtual ObjectRef attach(const ObjectSpec& spec) = 0;

  /// The object with this key whose bytes `source` has, and of which the disk keeps what was read,
  /// page by page, as long as there is room: the one in use already, what earlier runs left, or a
  /// new one. Its content must never be another under the same key. From now on `source` fills
  /// misses, also for those who hold the object already. Reads a page of the disk at most; a disk
  /// that fails is a cache that is empty.
  [[nodiscard]] virtual ObjectRef attach_cached(const CachedSpec& spec) = 0;

  /// What another process needs to attach_held() an object of this store. Opens its files, if they
  /// are not open.
  [[nodiscard]] virtual HeldObject hold(Object& object) = 0;
  /// As attach(); the files are those that are open, whatever is on disk by their names. They stay
  /// open for as long as the object is in use.
  [[nodiscard]] virtual ObjectRef attach_held(HeldObject held) = 0;

  /// Keeps what is on disk of a cached object from being evicted, or lets it go again; also before
  /// it is attached. Not remembered beyond this store's life.
  virtual void pin_cached(const ObjectKey& key, bool pinned) = 0;

  /// Drops what is on disk of a cached object, as far as no fetch is working on it. Blocks.
  virtual void forget_cached(const ObjectKey& key) = 0;

  /// The lease of one of PageStoreOptions::lent, once; else null.
  [[nodiscard]] virtual std::shared_ptr<const void> take_lease(const ObjectKey& key) = 0;
  /// Lets go of those that nobody has taken.
  virtual void drop_leases() = 0;

  /// Waits until what sources have brought so far is on disk, or is known not to get there.
  virtual void wait_cached() = 0;

  /// Begins a new object. `size_hint`, bytes of data without holes (0: unknown), lets a put that
  /// cannot fit fail before it moves a byte: RESOURCE_EXHAUSTED.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<ObjectWriter>> create(
      Retention retention, uint64_t size_hint) = 0;

  /// Makes sealed objects durable. One object: its files and their directory are synced. Several:
  /// one sync of the file system for all of them, whose price is that what other programs have
  /// dirty there is written too. After an error none may be relied on. Blocks.
  [[nodiscard]] virtual absl::Status sync(absl::Span<ObjectWriter* const> sealed) = 0;

  /// Whether somebody has the object: who attached it, or a read that is under way.
  [[nodiscard]] virtual bool is_held(const ObjectKey& key, const Incarnation& incarnation) = 0;

  /// The object is about to be removed: its files are opened for who holds it. The caller makes
  /// sure that nobody attaches it from then on.
  virtual void detach(const ObjectKey& key, const Incarnation& incarnation) = 0;

  /// Detaches the object, removes its files and gives its `disk_bytes` back to the budget. Readers
  /// who hold it go on reading (the open file lives until the last reference). A file that is gone
  /// already is no error; a large one takes its time.
  virtual absl::Status remove(const ObjectKey& key, const Incarnation& incarnation,
                              Retention retention, uint64_t disk_bytes) = 0;

  /// What is stored with objects' files (see ObjectWriter::seal).
  [[nodiscard]] virtual Descriptions& descriptions() = 0;

  /// Moves `disk_bytes` between kept and cached in the accounts of the budget.
  virtual void change_retention(Retention from, Retention to, uint64_t disk_bytes) = 0;

  /// Tells the accounts what the disk holds from earlier runs; once, at start, before any read or
  /// put.
  virtual void restore_usage(uint64_t kept_bytes, uint64_t cached_bytes) = 0;

  /// What is in objects/ and tmp/ without an owner: files of objects that `known` disowns, and
  /// temporary ones that nobody writes; a crash between rename and catalog commit leaves such.
  /// Calls `visit` for each; an error of it ends the walk and is returned. Changes nothing. Files
  /// of puts that are under way, and names that are not the store's, are passed over. Slow; run it
  /// in the background.
  virtual absl::Status for_each_leftover(
      const std::function<bool(const ObjectKey&, const Incarnation&)>& known,
      const std::function<absl::Status(const Leftover&)>& visit) = 0;

  /// Removes a leftover; an orphan's caller makes sure that nobody attaches its object meanwhile.
  /// False when there is nothing to remove (any more): it is gone, or its object is in use.
  [[nodiscard]] virtual absl::StatusOr<bool> remove_leftover(const Leftover& leftover) = 0;

  /// Reads an object's files (those of `spec`) from the disk, whatever the memory tier holds, and
  /// compares everything with its checksums and, with PageStoreOptions::content_hash, the whole
  /// with its key. Neither fills nor empties the memory tier. A damaged page map is made again
  /// where that is possible; damaged pages are dropped as a read drops them, so that who has the
  /// object open and has a source for it gets them from there.
  ///
  /// Files that are gone are damage: whether the object was removed meanwhile is the caller's to
  /// find out. CANCELLED when `control` ends it, UNAVAILABLE when the disk tier is out of use or
  /// there is no descriptor to spare, else the disk's error. Blocks; memory: about a megabyte.
  [[nodiscard]] virtual absl::StatusOr<ScrubResult> scrub(const ObjectSpec& spec,
                                                          ScrubControl& control) = 0;

  /// Drops an object's clean frames from L0; pinned ones stay. Returns the pages dropped.
  virtual uint64_t evict_memory(Object& object) = 0;

  /// At most one; `reclaimer` must live until it is unset (nullptr) or the store ends.
  virtual void set_reclaimer(DiskReclaimer* reclaimer) = 0;

  [[nodiscard]] virtual Stats stats() const = 0;
};

}  // namespace blobcache::page
