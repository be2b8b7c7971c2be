#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/page_map.h"
#include "store/volume/boot_id.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/journal.h"
#include "store/volume/impl/map_file.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// What a journal says of the run that ended without close(). Pure.
struct RecoveryPlan {
  /// Blocks that may have been written to since the last checkpoint: their pages' checksums are
  /// taken from what the file has.
  absl::btree_set<uint64_t> blocks;
  /// The states that count, in order. After a kill all do; after a power cut those that a flush
  /// came after, since of later ones the data may not have reached the disk.
  std::vector<Record> states;
  /// A file's length as the last of the states' records tells it; absent: the header's.
  std::optional<Record> length;
};

/// DATA_LOSS when records are missing that the scan says must be there. `same_boot`: the kernel has
/// lost nothing, so none may be missing before another.
[[nodiscard]] absl::StatusOr<RecoveryPlan> plan_recovery(const JournalScan& scan, uint64_t start,
                                                         bool same_boot, uint64_t blocks);

/// Brings a volume back to what it was, and its files to a checkpoint. Before anyone else has it;
/// blocks. It may be killed, or fail, and be begun again.
class Recovery {
 public:
  explicit Recovery(VolumeCore& core) : core_(core) {}

  [[nodiscard]] absl::Status run(const BootId& boot_id);

 private:
  /// Adds what the journal of a file does not tell of; see docs/disk-format.md.
  [[nodiscard]] absl::Status add_blocks_of_file(bool same_boot, bool is_stale,
                                                RecoveryPlan& plan) const;
  [[nodiscard]] absl::Status recover_blocks(const RecoveryPlan& plan, Header& header);
  /// Of a file: nothing is its own beyond its end, and the last page is zero there.
  [[nodiscard]] absl::Status cut_block(uint64_t number, page::MapBlock& states);
  [[nodiscard]] absl::Status cut_data_file();
  [[nodiscard]] absl::Status recover_block(uint64_t number, const std::vector<Record>& states,
                                           Header& header);
  [[nodiscard]] absl::Status recheck(uint64_t number, page::MapBlock& states);

  VolumeCore& core_;
};

}  // namespace blobcache::volume
