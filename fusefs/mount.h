#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/door_stats.h"
#include "base/parcel.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// Which files the kernel reads from the store's own files, with no daemon in between.
enum class PassthroughFiles : uint8_t {
  kNone,
  /// What nobody can write to: blobs, origins' files, files without a mode for it.
  kUnwritable,
  /// And all others that have settled. While such a one is open so, to open it for writing is
  /// ETXTBSY.
  kSettled,
};

struct MountOptions {
  std::filesystem::path mountpoint;  ///< an absolute path of a directory
  bool allow_other = false;
  absl::Duration entry_timeout =
      absl::Seconds(5);  ///< names and attributes; names under blobs/: longer
  absl::Duration negative_timeout = absl::Seconds(2);  ///< names that do not exist
  uint32_t max_background = 512;                   ///< requests on their way at once; 1 to 65535
  uint64_t max_request_bytes = uint64_t{1} << 20;  ///< 4 KiB to Object::kMaxRead, whole pages
  /// The kernel runs the O_DIRECT reads of one process side by side: several times the rate at a
  /// queue depth (libaio, io_uring). The price is that it waits for them where no signal, not even
  /// SIGKILL, ends the wait before the source has answered or failed.
  bool async_direct = true;
  bool read_only = false;  ///< nothing can be changed through this mount
  bool no_exec = false;    ///< no program can be run from it
  /// As far as libfuse (3.17), the kernel and our rights let us.
  PassthroughFiles passthrough = PassthroughFiles::kUnwritable;
  /// The kernel holds back what is written until it is synced, closed, or some time has passed, and
  /// knows best how long files are and when they changed. Only where `subtree` is within files/.
  bool writeback_cache = false;
  /// The path of a directory of the tree, which the mount shows as its root; "": all of the tree.
  std::string subtree;
};

/// One FUSE mount of the tree or a part of it; files/ and volumes can be written to. Requests run
/// on libfuse's worker threads. Half of them at most wait for the disk at a time, and none for a
/// source: such a miss is answered from the store's thread when its pages have come. What a process
/// sees is told in docs/semantics.md.
///
/// A subtree is a directory, not a name: the mount follows it when it is renamed, and is empty when
/// it has been removed (ESTALE for the root itself), whatever the name means by then.
///
/// A process that replaces this one can take a mount over while it is in use: pause(), hand_over(),
/// and take_over() and resume() there. Who has files open, or waits for an answer, notices a pause.
///
/// A daemon that dies leaves its mount behind, dead ("Transport endpoint is not connected"); the
/// next start at the same mountpoint takes it away.
///
/// Thread-safe, but destroyed on a thread of its user. The mount's threads take none of the
/// process's signals; one real-time signal that nobody else handles is claimed to wake them.
class Mount {
 public:
  /// Mounts and serves. NOT_FOUND or FAILED_PRECONDITION for a mountpoint that is missing, no
  /// directory, not empty or mounted already; UNAVAILABLE when there is no /dev/fuse,
  /// PERMISSION_DENIED when mounting is not allowed, INVALID_ARGUMENT for a relative path or
  /// options out of range; each with one clear sentence. Of a subtree that is not there NOT_FOUND,
  /// of one that is no directory FAILED_PRECONDITION, else as tree::Namespace::resolve, which may
  /// wait for an origin. A failed start leaves nothing mounted.
  /// `on_end` is called once, on a thread of the mount, when the mount ends by itself (someone ran
  /// umount). It must not destroy the mount; unmount() from it does nothing, as there is nothing
  /// left to unmount. `names` must outlive the mount.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Mount>> start(const MountOptions& options,
                                                                    tree::Namespace& names,
                                                                    std::function<void()> on_end);
  /// Goes on with a mount that another process has handed over; paused. Errors: DATA_LOSS for a
  /// parcel that is damaged, FAILED_PRECONDITION when this program and the kernel would not
  /// understand each other. After an error the parcel is as good as before.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Mount>> take_over(
      const base::Parcel& parcel, tree::Namespace& names, std::function<void()> on_end);
  virtual ~Mount() = default;  ///< unmount(), unless it was handed over

  /// Takes from the kernel what was written through shared mappings, unmounts (lazily when files
  /// are open), answers what is under way (reads that wait for pages, with ECONNABORTED), ends the
  /// threads and lets go of every object. Idempotent; does not wait for readers.
  virtual void unmount() = 0;

  /// Takes no more requests from the kernel, which keeps them, and returns when all that were taken
  /// are answered. DEADLINE_EXCEEDED when some are not by then: the mount has gone on. While it is
  /// paused whoever uses the mount waits, this process, too, so it must not.
  [[nodiscard]] virtual absl::Status pause(absl::Time deadline) = 0;
  virtual void resume() = 0;
  /// Each open file, with its object where it is one.
  [[nodiscard]] virtual std::vector<tree::OpenNode> open_objects() const = 0;
  /// Ends the threads of a mount that is paused, and packs it for the process that takes it over;
  /// what is open is held until this dies. FAILED_PRECONDITION for a mount that has ended.
  [[nodiscard]] virtual absl::StatusOr<base::Parcel> hand_over() = 0;

  /// Notes from now on whose requests come, and what take_callers() gives: the process groups of
  /// those, each once.
  virtual void watch_callers() = 0;
  [[nodiscard]] virtual std::vector<pid_t> take_callers() = 0;

  /// Its device number, as stat(2) shows it of what is on it.
  [[nodiscard]] virtual dev_t device() const = 0;
  [[nodiscard]] virtual const std::filesystem::path& mountpoint() const = 0;
  [[nodiscard]] virtual base::DoorStats stats() const = 0;
};

}  // namespace blobcache::fusefs
