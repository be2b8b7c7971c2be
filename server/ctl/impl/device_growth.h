#pragma once

#include <string>
#include <vector>

#include "blobcache.pb.h"
#include "blockdev/nbd_devices.h"

namespace blobcache::ctl {

/// What a device of the kernel shows that is attached to the volume: known by the volume's id, so
/// that another node's volume of that name, or a later one of this node, is other content.
[[nodiscard]] blockdev::DeviceContent content_of(const v1::Volume& volume);

/// A block device of this machine whose volume has grown. Value type.
struct GrownDevice {
  std::string name;     ///< "/dev/nbd0"
  std::string trouble;  ///< why it keeps its old size until it is attached anew; empty: it does not
};

/// Has the devices of the kernel's nbd driver on this machine that show less of the volume show all
/// of it, which takes root.
[[nodiscard]] std::vector<GrownDevice> grow_nbd_devices(const v1::Volume& volume);

}  // namespace blobcache::ctl
