#pragma once

#include "absl/status/status.h"
#include "blobcache.pb.h"
#include "server/own_mounts.h"
#include "server/upgrade_desk.h"

namespace blobcache::server {

// The calls of the Admin service that have to do with upgrades. Without a `desk` they are
// FAILED_PRECONDITION.

/// Returns when the program has been looked at; the upgrade follows.
[[nodiscard]] absl::Status serve_upgrade(UpgradeDesk* desk, OwnMounts& mounts,
                                         const v1::UpgradeRequest& request,
                                         v1::UpgradeResponse& response);
[[nodiscard]] absl::Status serve_upgrade_outcome(UpgradeDesk* desk,
                                                 const v1::UpgradeOutcomeRequest& request,
                                                 v1::UpgradeOutcomeResponse& response);

}  // namespace blobcache::server
