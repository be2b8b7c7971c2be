#include "server/ctl/impl/device_growth.h"

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/hex.h"
#include "base/status.h"
#include "blobcache.pb.h"
#include "blockdev/kernel_nbd.h"
#include "blockdev/nbd_devices.h"

namespace blobcache::ctl {
namespace {

using blockdev::DeviceContent;
using blockdev::KernelNbd;
using blockdev::NbdDevice;

constexpr absl::Duration kAnswer = absl::Seconds(2);

absl::Status grow(const NbdDevice& device, uint64_t size_bytes) {
  // The kernel would wait for what waits for a daemon, and take no new connections meanwhile.
  if (!blockdev::NbdDevices().answers(device.index, kAnswer)) {
    return absl::UnavailableError("its requests wait for a daemon");
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<KernelNbd> kernel, KernelNbd::open());
  return kernel->resize(device.index, device.identifier, size_bytes);
}

}  // namespace

DeviceContent content_of(const v1::Volume& volume) {
  const void* const id = volume.id().data();
  return {.id = "volume:" + base::to_hex({static_cast<const uint8_t*>(id), volume.id().size()}),
          .path = "volumes/" + volume.name()};
}

std::vector<GrownDevice> grow_nbd_devices(const v1::Volume& volume) {
  const std::string id = content_of(volume).id;
  std::vector<GrownDevice> grown;
  for (const NbdDevice& device : blockdev::NbdDevices().attached()) {
    const std::optional<DeviceContent> shown = DeviceContent::parse(device.identifier);
    if (!shown || shown->id != id || device.size_bytes >= volume.size()) continue;
    const absl::Status status = grow(device, volume.size());
    grown.push_back({blockdev::nbd_device_name(device.index), std::string(base::message(status))});
  }
  return grown;
}

}  // namespace blobcache::ctl
