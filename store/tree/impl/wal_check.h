#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "store/tree/impl/catalog_log.h"

namespace blobcache::tree {

/// How an SQLite write-ahead log looks before SQLite opens it. SQLite takes the frames up to the
/// first that does not check and says nothing of the rest, which a torn end needs and damage
/// abuses.
enum class WalState : uint8_t {
  kAbsent,   ///< there is none
  kWhole,    ///< all frames check, but for an end that may have been torn; or it is empty
  kDamaged,  ///< a frame that was synced does not check, or the header does not
};

/// Reads the whole log; a frame's worth of memory. What cannot be read is damaged. `synced` is up
/// to where it is known to have been synced; absent: nobody noted it, and then every frame that
/// others with a commit follow counts as synced. The format is in SQLite's "Database File Format",
/// section 4.
[[nodiscard]] WalState inspect_wal(const std::filesystem::path& wal,
                                   const std::optional<LogPosition>& synced = std::nullopt);

}  // namespace blobcache::tree
