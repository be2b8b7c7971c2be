#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/listen_address.h"

namespace blobcache::ctl {

/// Of the addresses on which a daemon's NBD door listens, the one to connect to for who reached the
/// daemon at `endpoint`: a unix socket where that is on this machine, since it is the fastest, and
/// else TCP; an address that stands for all of the other machine's is the endpoint's host.
/// FAILED_PRECONDITION when none can be reached. Pure.
[[nodiscard]] absl::StatusOr<base::ListenAddress> choose_nbd_listener(
    const base::ListenAddress& endpoint, const std::vector<std::string>& listeners);

}  // namespace blobcache::ctl
