#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/leftover.h"

namespace blobcache::page {

// The disk tier's files that belong to nobody. Thread-safe; blocks on the disk.

/// As PageStore::for_each_leftover.
[[nodiscard]] absl::Status for_each_leftover(
    DiskTier& disk, const std::function<bool(const ObjectKey&, const Incarnation&)>& known,
    const std::function<absl::Status(const Leftover&)>& visit);

/// Unlinks the file, unless somebody writes it. False when it is not there (any more).
[[nodiscard]] absl::StatusOr<bool> remove_leftover(DiskTier& disk, const Leftover& leftover);

}  // namespace blobcache::page
