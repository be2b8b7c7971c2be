#pragma once

#include <string>

#include "absl/time/time.h"
#include "server/snapshot.h"

namespace blobcache::server {

/// The status page: HTML that needs nothing from elsewhere, no scripts, and refreshes itself. All
/// that comes from outside (paths, addresses) is escaped. Pure.
[[nodiscard]] std::string status_page(const Snapshot& snapshot, absl::Time now);

}  // namespace blobcache::server
