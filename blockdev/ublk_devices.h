#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tree/namespace.h"

namespace blobcache::blockdev {

/// A block device of the kernel's ublk driver that this process serves. Value type.
struct UblkInfo {
  uint32_t id = 0;  ///< N of /dev/ublkbN
  std::string path;
  uint64_t size_bytes = 0;
  bool read_only = true;
  bool recovered = false;  ///< it was there, and waited for a daemon
};

/// What became of a device whose volume has grown. Value type.
struct UblkGrowth {
  uint32_t id = 0;
  /// OK: it shows the new size. UNIMPLEMENTED where the driver has no way to tell (before Linux
  /// 6.16), and the driver's errors: it does when it is attached anew.
  absl::Status status;
};

/// Exports as block devices by the kernel's ublk driver (Linux 6.5 or later, CAP_SYS_ADMIN), each
/// with a few queues and a thread a queue; those of volumes can be written.
///
/// A device outlives this: when the process ends, however it does, what is read from the device
/// waits until attach() recovers it. Thread-safe; one attach() or detach() at a time, others wait.
class UblkDevices {
 public:
  /// `exports`: the allow-list, as NbdServerOptions has it. `names` must outlive this.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<UblkDevices>> create(
      const std::vector<std::string>& exports, tree::Namespace& names);
  /// Leaves the devices waiting.
  virtual ~UblkDevices() = default;

  /// Makes a path a device: the first that is free, or `id`; one that lost its daemon and showed
  /// the same bytes is recovered. NOT_FOUND, FAILED_PRECONDITION (no driver, other bytes),
  /// UNIMPLEMENTED (too old a kernel), PERMISSION_DENIED, ALREADY_EXISTS (in use).
  [[nodiscard]] virtual absl::StatusOr<UblkInfo> attach(const std::string& path,
                                                        std::optional<uint32_t> id) = 0;
  /// Takes a device away, also one of ours that waits for a daemon. NOT_FOUND when there is none,
  /// FAILED_PRECONDITION when it is another's.
  [[nodiscard]] virtual absl::Status detach(uint32_t id) = 0;

  /// What this process serves now, by number. Waits for nobody.
  [[nodiscard]] virtual std::vector<UblkInfo> list() = 0;

  /// `path` may have grown: the devices that this process serves it as, and show less, are to show
  /// all of it. Returns what became of each.
  [[nodiscard]] virtual std::vector<UblkGrowth> grow(const std::string& path) = 0;
};

}  // namespace blobcache::blockdev
