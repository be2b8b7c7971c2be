#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace blobcache::blockdev {

/// What a kernel block device is to be. Value type.
struct NbdDeviceOptions {
  std::optional<uint32_t> index;  ///< N of /dev/nbdN; absent: a free one
  uint64_t size_bytes = 0;        ///< a multiple of block_bytes
  uint32_t block_bytes = 512;     ///< the logical block: 512 to 4096
  uint16_t transmission_flags = 0;
  /// A request that waits longer is sent again, on another connection or, once there is one, a new
  /// one. Whole seconds.
  absl::Duration timeout = absl::Seconds(30);
  /// How long requests wait for a new connection when all are dead; then they fail. Whole seconds.
  absl::Duration dead_timeout = absl::Seconds(300);
  /// Kept by the kernel (5.14 and later), shown in sysfs, and compared by reconnect().
  std::string identifier;
};

/// The kernel's NBD driver, administered by generic netlink (linux/nbd-netlink.h).
///
/// The kernel takes connections that are past their handshake, and keeps them: what connect() and
/// reconnect() were given may be closed afterwards. One thread at a time.
class KernelNbd {
 public:
  /// FAILED_PRECONDITION when the driver is not there, or PERMISSION_DENIED when we may not tell it
  /// anything (CAP_SYS_ADMIN).
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<KernelNbd>> open();
  virtual ~KernelNbd() = default;

  /// Makes a device of connections to one export; returns its index. More than one connection needs
  /// NBD_FLAG_CAN_MULTI_CONN. ALREADY_EXISTS when the device is in use.
  [[nodiscard]] virtual absl::StatusOr<uint32_t> connect(
      const NbdDeviceOptions& options, absl::Span<const base::UniqueFd> connections) = 0;

  /// Gives a device new connections for those that are dead; as many as it needs, others are
  /// dropped. Requests that wait go on. FAILED_PRECONDITION when the device is not attached, or not
  /// with this identifier.
  [[nodiscard]] virtual absl::Status reconnect(uint32_t index, const std::string& identifier,
                                               absl::Span<const base::UniqueFd> connections) = 0;

  /// Tells everybody who uses the device that it has another size, a multiple of its blocks.
  /// FAILED_PRECONDITION when the device is not attached, or not with this identifier.
  [[nodiscard]] virtual absl::Status resize(uint32_t index, const std::string& identifier,
                                            uint64_t size_bytes) = 0;

  /// Takes the device away from whoever uses it: what waits, fails. No error when it is not
  /// attached.
  [[nodiscard]] virtual absl::Status disconnect(uint32_t index) = 0;
};

}  // namespace blobcache::blockdev
