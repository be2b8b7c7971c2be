#pragma once

#include <cstdint>
#include <filesystem>

namespace blobcache::tree {

/// How much of what was not synced a power cut leaves. Per name, per 512 bytes of a file and per
/// size, each by a throw of its own.
enum class Unsynced : uint8_t {
  kLost,    ///< nothing: the disk wrote only when it had to
  kKept,    ///< everything, as after a kill
  kRandom,  ///< any subset
};

struct PowerCut {
  std::filesystem::path store;   ///< as its killed process left it
  std::filesystem::path record;  ///< that record_syncs() made of it
  Unsynced unsynced = Unsynced::kRandom;
  uint64_t seed = 0;
};

/// Makes the tree at `to` (absent) that the power cut leaves of the store. What it keeps is what
/// POSIX and ext4 promise, and no more: a file's data and size as of its last fsync, a directory's
/// names as of its own, everything as of the last syncfs. A name that a rename moved between two
/// directories may be in both, in one or in neither. Extended attributes are not kept. Throws on
/// errors of the file system.
void cut_power(const PowerCut& cut, const std::filesystem::path& to);

}  // namespace blobcache::tree
