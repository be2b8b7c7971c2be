#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "server/snapshot.h"

namespace blobcache::server {

/// A Snapshot as Prometheus sees it: names begin with "blobcache_", units are base units (bytes,
/// seconds, pages of 4 KiB), `tier` is L0, L1 or L2, `door` is fuse, nbd or grpc. Pure.
[[nodiscard]] std::vector<prometheus::MetricFamily> metric_families(const Snapshot& snapshot);

}  // namespace blobcache::server
