#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace blobcache::blockdev {

/// What a block device shows, as the kernel keeps it in the device's identifier: so that a daemon
/// that comes back is given to the device whose bytes it has, and to no other. Value type.
struct DeviceContent {
  std::string id;    ///< of the bytes, which stay what they are: "sha256:<64 hex>"; no spaces
  std::string path;  ///< of the tree, by which it was attached

  /// "blobcache ID PATH"; a path over 1 KiB is cut, for sysfs shows a page at most.
  [[nodiscard]] std::string to_identifier() const;
  /// Nothing for a device that somebody else attached.
  [[nodiscard]] static std::optional<DeviceContent> parse(std::string_view identifier);
};

/// A device that is attached. Value type.
struct NbdDevice {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
  bool read_only = false;
  std::string identifier;  ///< "" when the kernel keeps none
};

/// N of "/dev/nbdN" or "nbdN"; INVALID_ARGUMENT for anything else.
[[nodiscard]] absl::StatusOr<uint32_t> parse_nbd_device(std::string_view text);
[[nodiscard]] std::string nbd_device_name(uint32_t index);  ///< "/dev/nbdN"
/// The same for ublk's "/dev/ublkbN" and "ublkbN".
[[nodiscard]] absl::StatusOr<uint32_t> parse_ublk_device(std::string_view text);
[[nodiscard]] std::string ublk_device_name(uint32_t id);  ///< "/dev/ublkbN"

/// What the kernel tells of its NBD devices in /sys and /proc. Immutable, so any thread may use it.
class NbdDevices {
 public:
  /// Where those are; tests have them elsewhere.
  struct Roots {
    std::filesystem::path sys = "/sys";
    std::filesystem::path proc = "/proc";
    std::filesystem::path dev = "/dev";
  };

  NbdDevices() = default;
  explicit NbdDevices(Roots roots) : roots_(std::move(roots)) {}

  /// Nothing when it is not attached, or not there at all.
  [[nodiscard]] std::optional<NbdDevice> find(uint32_t index) const;
  /// By their indices.
  [[nodiscard]] std::vector<NbdDevice> attached() const;

  /// Who uses a device ("nbd0", "ublkb0") or a partition of it: "mounted on /mnt", "used as swap",
  /// "used by dm-0". Other mount namespaces than ours are not seen.
  [[nodiscard]] std::vector<std::string> users(const std::string& device) const;

  /// Opens the device so that nobody can mount it meanwhile. FAILED_PRECONDITION when somebody has
  /// it already. An invalid descriptor when there is no such file in /dev.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> claim(const std::string& device) const;

  /// Opens the device and closes it: the kernel reads the partition table when somebody does that
  /// for the first time.
  void settle(const std::string& device) const;

  /// Whether requests to the device are answered: none is under way, or one ends within `longest`.
  /// Not those of a device that waits for a daemon.
  [[nodiscard]] bool answers(uint32_t index, absl::Duration longest) const;

  /// Waits until the device is attached no more; false when that takes longer.
  [[nodiscard]] bool wait_gone(uint32_t index, absl::Duration longest) const;

 private:
  [[nodiscard]] std::filesystem::path block(const std::string& device) const;
  /// The device's folder in sysfs and those of its partitions.
  [[nodiscard]] std::vector<std::filesystem::path> folders(const std::string& device) const;

  Roots roots_;
};

}  // namespace blobcache::blockdev
