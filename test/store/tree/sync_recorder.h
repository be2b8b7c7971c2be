#pragma once

#include <cstdint>
#include <filesystem>

namespace blobcache::tree {

/// Which syncs tell the lie that all went well and make nothing durable: a test of the test.
enum class IgnoredSyncs : uint8_t { kNone, kFiles, kDirectories, kFileSystems, kAll };

struct RecordOptions {
  std::filesystem::path store;   ///< what is recorded; absolute, without symbolic links
  std::filesystem::path record;  ///< an empty directory, on the same file system, not in the store
  IgnoredSyncs ignored = IgnoredSyncs::kNone;
  uint64_t die_at_sync = 0;       ///< the process kills itself at its n-th sync; 0: it does not
  bool die_after_record = false;  ///< what that sync promises is kept; else it is not
};

/// From now on fsync, fdatasync and syncfs, whoever in this process calls them, SQLite too, do not
/// reach the disk. What they make durable is copied into the record instead, from which cut_power()
/// makes the tree that a power cut would leave. What is in the store now counts as durable.
///
/// The program that links this file has its own fsync, fdatasync and syncfs in the place of libc's;
/// until this is called they do nothing, as no test of that program needs a real disk. Once a
/// process: for a child that is going to be killed. A killed process leaves a record that holds all
/// syncs that had returned.
///
/// Syncs by other ways (O_SYNC, sync_file_range, io_uring, mmap) are not seen, so what depends on
/// them counts as lost.
void record_syncs(const RecordOptions& options);

/// The record's files:
///
///     data/<inode>   a file's content as of its last sync
///     names/<inode>  a directory's names as of its last sync, one "<inode> <d or f> <name>" a line
///     links/<inode>  a hard link to each file above or named there: what was written since, and
///                    the reason why no inode number comes back with another file
[[nodiscard]] std::filesystem::path data_of(const std::filesystem::path& record, uint64_t inode);
[[nodiscard]] std::filesystem::path names_of(const std::filesystem::path& record, uint64_t inode);
[[nodiscard]] std::filesystem::path link_of(const std::filesystem::path& record, uint64_t inode);

}  // namespace blobcache::tree
