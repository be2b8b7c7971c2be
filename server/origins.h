#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config.h"
#include "store/tree/origin.h"

namespace blobcache::server {

using Origins = std::vector<std::shared_ptr<tree::Origin>>;

/// Makes what was configured; it need not be reachable. INVALID_ARGUMENT for what cannot be.
using OriginFactory =
    std::function<absl::StatusOr<std::shared_ptr<tree::Origin>>(const Config::Origin& config)>;

/// The origins that this program serves. As OriginFactory; UNIMPLEMENTED for another type.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_origin(
    const Config::Origin& config);

/// All of them, in the order of the configuration. An error names the origin.
[[nodiscard]] absl::StatusOr<Origins> make_origins(const std::vector<Config::Origin>& configs,
                                                   const OriginFactory& factory);

}  // namespace blobcache::server
