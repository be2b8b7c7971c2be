#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tree/impl/sqlite.h"

namespace blobcache::tree {

/// The version of the catalog that this program writes; docs/disk-format.md tells the tables.
inline constexpr int64_t kSchemaVersion = 5;

/// The version of the catalog behind `database`, 0 for an empty one. Changes nothing. DATA_LOSS for
/// a file that is damaged or no database, FAILED_PRECONDITION for a database of another program or
/// of a newer version than ours.
[[nodiscard]] absl::StatusOr<int64_t> check_schema(Database& database,
                                                   const std::filesystem::path& file);

/// Brings a catalog of `version` (as check_schema() told) to kSchemaVersion in one transaction: an
/// empty one is filled, an older one upgraded step by step. A failure changes nothing.
[[nodiscard]] absl::Status upgrade_schema(Database& database, int64_t version);

}  // namespace blobcache::tree
