#pragma once

#include "absl/status/status.h"
#include "blobcache.pb.h"
#include "server/ctl/session.h"

namespace blobcache::ctl {

/// Has the daemon mount. UNAVAILABLE as Outcome::failed() knows it when nobody is there, else what
/// the daemon says.
[[nodiscard]] absl::Status ask_to_mount(const v1::MountRequest& request, Session& session);

}  // namespace blobcache::ctl
