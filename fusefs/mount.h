#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/door_stats.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

struct MountOptions {
  std::filesystem::path mountpoint;  ///< an absolute path of a directory
  bool allow_other = false;
  absl::Duration entry_timeout = absl::Seconds(5);     ///< names and attributes
  absl::Duration negative_timeout = absl::Seconds(2);  ///< names that do not exist
  uint32_t max_background = 512;
  uint64_t max_request_bytes = uint64_t{1} << 20;
};

/// One FUSE mount of the whole tree, read-only. Requests run on libfuse's worker threads; a miss is answered
/// from the store's thread when its pages have come, so no worker waits for one.
///
/// Thread-safe.
class Mount {
 public:
  /// Mounts and serves. NOT_FOUND or FAILED_PRECONDITION for a mountpoint that is missing, no directory, not
  /// empty or mounted already; UNAVAILABLE when there is no /dev/fuse; each with one clear sentence.
  /// `on_end` is called once, on a thread of the mount, when the mount ends by itself (someone ran umount).
  /// `names` must outlive the mount.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Mount>> start(const MountOptions& options,
                                                                    tree::Namespace& names,
                                                                    std::function<void()> on_end);
  virtual ~Mount() = default;  ///< unmount()

  /// Unmounts (lazily when files are open), answers what is under way, ends the threads. Idempotent.
  virtual void unmount() = 0;

  [[nodiscard]] virtual const std::filesystem::path& mountpoint() const = 0;
  [[nodiscard]] virtual base::DoorStats stats() const = 0;
};

}  // namespace blobcache::fusefs
