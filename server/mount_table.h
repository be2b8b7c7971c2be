#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/door_stats.h"
#include "base/parcel.h"
#include "fusefs/mount.h"
#include "server/mount_view.h"
#include "server/own_mounts.h"

namespace blobcache::server {

/// The FUSE mounts of this daemon, by mountpoint. A mount that somebody else ends (umount) leaves
/// the table by itself: a thread of the table takes it apart, since a mount's own thread cannot
/// wait for its own end.
///
/// Thread-safe. Mounting and unmounting happen outside the lock, so that a mountpoint that hangs
/// never holds up the others, or a question about the state.
class MountTable final : public OwnMounts {
 public:
  static constexpr size_t kMaxMounts = 64;

  /// Mounts with `options`; calls `on_end` as fusefs::Mount::start says.
  using StartMount = std::function<absl::StatusOr<std::unique_ptr<fusefs::Mount>>(
      const fusefs::MountOptions& options, std::function<void()> on_end)>;

  /// `defaults` are the options of each mount but for what a MountView says.
  MountTable(fusefs::MountOptions defaults, StartMount start);
  MountTable(const MountTable&) = delete;
  MountTable& operator=(const MountTable&) = delete;
  ~MountTable() override { stop(); }

  /// Mounts as `wanted` says; its paths may be spelt in any way. ALREADY_EXISTS when this daemon
  /// has a mount there, RESOURCE_EXHAUSTED with kMaxMounts, UNAVAILABLE after stop(), else as
  /// fusefs::Mount::start. A failed call leaves nothing behind.
  [[nodiscard]] absl::Status add(const MountView& wanted);

  /// Unmounts what was mounted by this path, or at what the path leads to by symbolic links.
  /// NOT_FOUND when no mount of ours is there; FAILED_PRECONDITION while it comes or goes.
  [[nodiscard]] absl::Status remove(const std::filesystem::path& mountpoint);

  /// What later mounts are made with.
  void set_defaults(const fusefs::MountOptions& defaults);

  /// What is served, by mountpoint.
  [[nodiscard]] std::vector<MountView> list() const;

  /// All mounts together, those that have ended too: counters never go back.
  [[nodiscard]] base::DoorStats stats() const;

  /// Unmounts all and admits no more. Idempotent.
  void stop();

  // Another process takes the mounts over; see fusefs::Mount.
  /// Pauses all; nothing is mounted or unmounted meanwhile. DEADLINE_EXCEEDED when one of them
  /// cannot: then all have gone on.
  [[nodiscard]] absl::Status pause(absl::Time deadline);
  void resume();
  /// Each open file of all.
  [[nodiscard]] std::vector<tree::OpenNode> open_objects() const;
  /// For when they are paused: a parcel for each that has not ended.
  [[nodiscard]] absl::StatusOr<std::vector<base::Parcel>> hand_over();
  /// Goes on with such a mount.
  using TakeOverMount = std::function<absl::StatusOr<std::unique_ptr<fusefs::Mount>>(
      const base::Parcel& mount, std::function<void()> on_end)>;
  [[nodiscard]] absl::Status take_over(const base::Parcel& parcel, const TakeOverMount& take_over);

  // OwnMounts
  [[nodiscard]] std::vector<dev_t> devices() const override;
  void watch_callers() override;
  [[nodiscard]] std::vector<pid_t> take_callers() override;

 private:
  enum class State : uint8_t { kStarting, kServing, kEnding };
  struct Entry {
    uint64_t id = 0;
    State state = State::kStarting;
    MountView view;
    std::unique_ptr<fusefs::Mount> mount;
  };

  /// Those that are served, which no other thread ends while it is paused.
  [[nodiscard]] std::vector<std::pair<MountView, fusefs::Mount*>> served() const;
  void reap();
  void on_end(uint64_t id);
  /// The entry that was mounted by this path, or is mounted at it; nullptr when there is none.
  [[nodiscard]] Entry* find(const std::filesystem::path& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool knows(const std::filesystem::path& path);
  /// An entry in kServing that has ended by itself.
  [[nodiscard]] bool has_ended(const Entry& entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool work_for_reaper() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] bool is_settled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Unmounts an entry that is in kEnding and takes it out.
  void finish(const std::filesystem::path& mountpoint, fusefs::Mount& mount);

  const StartMount start_;
  mutable absl::Mutex mutex_;  ///< a leaf but for Mount::stats()
  fusefs::MountOptions defaults_ ABSL_GUARDED_BY(mutex_);
  std::map<std::filesystem::path, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> ended_ ABSL_GUARDED_BY(mutex_);  ///< ids; bounded by the entries
  base::DoorStats past_ ABSL_GUARDED_BY(mutex_);         ///< of the mounts that are gone
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reaper_;
};

}  // namespace blobcache::server
