#pragma once

#include "base/listen_address.h"
#include "server/config.h"
#include "server/impl/config_checks.h"

namespace blobcache::server {

/// What is wrong with the origins: names that cannot be or are taken, types that are not served,
/// urls that lead nowhere or back to our own block device door, keys that exclude each other. Keys
/// are reported as "origin[0].url". No origin is contacted; changes nothing.
void check_origins(const Config& config, const ReportProblem& report);

/// Whether who connects to `address` reaches what listens on `listener`. Compares what is written
/// with this machine's addresses; asks no name server.
[[nodiscard]] bool leads_to(const base::ListenAddress& address,
                            const base::ListenAddress& listener);

}  // namespace blobcache::server
