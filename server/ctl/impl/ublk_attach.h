#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blobcache.pb.h"
#include "server/ctl/outcome.h"
#include "server/ctl/session.h"

namespace blobcache::ctl {

// Block devices of the kernel's ublk driver, which the daemon serves itself. `argument` is what the
// user wrote for the path or the device, and `device` may be empty: any.

[[nodiscard]] Outcome attach_ublk(const std::string& argument, const std::string& device,
                                  Session& session);
/// The devices that the daemon serves; none when it cannot be reached, or does not tell us.
[[nodiscard]] std::vector<v1::ListUblkResponse::Device> list_ublk(Session& session);
[[nodiscard]] Outcome detach_ublk(const std::string& argument, Session& session);

/// Why a device ("nbd0", "ublkb0") cannot be taken away now: it is mounted, or otherwise in use.
[[nodiscard]] absl::Status check_unused(const std::string& device);

}  // namespace blobcache::ctl
