#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "net/dir_origin.h"
#include "server/config.h"
#include "store/tree/origin.h"

namespace blobcache::server {

using Origins = std::vector<std::shared_ptr<tree::Origin>>;

/// Makes what was configured; it need not be reachable. INVALID_ARGUMENT for what cannot be.
/// `guard` keeps directories from what is this daemon's own.
using OriginFactory = std::function<absl::StatusOr<std::shared_ptr<tree::Origin>>(
    const Config::Origin& config, const std::shared_ptr<net::DirGuard>& guard)>;

/// The origins that this program serves. As OriginFactory; UNIMPLEMENTED for another type.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_origin(
    const Config::Origin& config, const std::shared_ptr<net::DirGuard>& guard);

/// All of them, in the order of the configuration. An error names the origin.
[[nodiscard]] absl::StatusOr<Origins> make_origins(const std::vector<Config::Origin>& configs,
                                                   const OriginFactory& factory,
                                                   const std::shared_ptr<net::DirGuard>& guard);

}  // namespace blobcache::server
