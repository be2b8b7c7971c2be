#pragma once

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"

namespace blobcache::volume {

/// Which run of the kernel this is. As long as it is the same, everything that a killed process
/// gave to the kernel is still there; when it is another, only what was synced can be relied on.
/// Value type.
struct BootId {
  std::array<uint8_t, 16> bytes{};

  friend bool operator==(const BootId&, const BootId&) = default;

  /// From /proc/sys/kernel/random/boot_id; UNAVAILABLE where that cannot be read. Thread-safe.
  [[nodiscard]] static absl::StatusOr<BootId> current();
};

}  // namespace blobcache::volume
