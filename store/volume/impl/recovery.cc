#include "store/volume/impl/recovery.h"

#include <algorithm>
#include <bit>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/volume/impl/own_page.h"

namespace blobcache::volume {
namespace {

using page::kExtentsPerMapBlock;
using page::kPageShift;
using page::PageMask;

const absl::Status& damaged_journal() {
  static const absl::Status status = absl::DataLossError("the volume's journal is damaged");
  return status;
}

}  // namespace

absl::StatusOr<RecoveryPlan> plan_recovery(const JournalScan& scan, uint64_t start, bool same_boot,
                                           uint64_t blocks) {
  const uint64_t end = start + scan.records.size();
  if (end < scan.synced || (same_boot && end <= scan.last)) return damaged_journal();
  uint64_t counted = same_boot ? end : start;
  for (const NumberedRecord& numbered : scan.records) {
    if (!same_boot && numbered.record.kind == Record::Kind::kFlush) {
      counted = std::max(counted, numbered.record.first);
    }
  }
  RecoveryPlan plan;
  for (const NumberedRecord& numbered : scan.records) {
    const Record& record = numbered.record;
    switch (record.kind) {
      case Record::Kind::kState:
        plan.blocks.insert(page::map_block_of(record.index));
        if (numbered.number < counted) plan.states.push_back(record);
        if ((record.first & record.second) != 0) return damaged_journal();
        break;
      case Record::Kind::kIntent:
        for (uint64_t mask = record.first; mask != 0; mask &= mask - 1) {
          plan.blocks.insert(uint64_t{record.index} * kBlocksPerIntent +
                             static_cast<uint64_t>(std::countr_zero(mask)));
        }
        break;
      case Record::Kind::kFlush:
        break;
    }
  }
  if (!plan.blocks.empty() && *plan.blocks.rbegin() >= blocks) return damaged_journal();
  return plan;
}

absl::Status Recovery::run(const BootId& boot_id) {
  const absl::MutexLock lock(&core_.header_mutex);
  Header header = core_.header;
  BLOBCACHE_ASSIGN_OR_RETURN(const JournalScan scan, core_.journal.scan(header.journal_start));
  const bool same_boot = header.boot_id == boot_id;
  BLOBCACHE_ASSIGN_OR_RETURN(const RecoveryPlan plan,
                             plan_recovery(scan, header.journal_start, same_boot,
                                           page::map_block_count(header.size_bytes)));
  const uint64_t next = scan.last + 1;
  if (!plan.blocks.empty()) {
    // After a kill the data may be in the kernel alone; the map must not be ahead of it.
    BLOBCACHE_RETURN_IF_ERROR(core_.calls.sync(core_.files.data.get()));
    absl::btree_map<uint64_t, std::vector<Record>> states;
    for (const uint64_t number : plan.blocks) states[number];
    for (const Record& record : plan.states) {
      states[page::map_block_of(record.index)].push_back(record);
    }
    for (const auto& [number, records] : states) {
      BLOBCACHE_RETURN_IF_ERROR(recover_block(number, records, header));
    }
    BLOBCACHE_RETURN_IF_ERROR(core_.map.sync());
    ++header.checkpoint;
    core_.recovered = true;
  }
  // Records beyond a gap must not be taken for new ones: their numbers are not used again.
  header.journal_start = next;
  header.boot_id = boot_id;
  // What is as it was need not be written; a clean end and no power cut leave it so.
  if (header != core_.header) BLOBCACHE_RETURN_IF_ERROR(core_.header_file.write(header));
  core_.header = header;
  core_.checkpoint.store(header.checkpoint);
  core_.data_pages.store(header.data_pages);
  core_.charge.take_anyway(header.data_pages << kPageShift);
  core_.journal.begin(next);
  return absl::OkStatus();
}

absl::Status Recovery::recover_block(uint64_t number, const std::vector<Record>& states,
                                     Header& header) {
  BLOBCACHE_ASSIGN_OR_RETURN(const StoredBlock stored,
                             core_.map.load(number, header.checkpoint, true));
  page::MapBlock block = stored.states;
  for (const Record& record : states) {
    const uint64_t local = record.index % kExtentsPerMapBlock;
    block.on_disk.at(local) = record.first;
    block.zero.at(local) = record.second;
  }
  BLOBCACHE_RETURN_IF_ERROR(recheck(number, block));
  header.data_pages += data_pages_of(block) - data_pages_of(stored.states);
  return core_.map.store(number, block, header.checkpoint + 1, 1 - stored.copy);
}

absl::Status Recovery::recheck(uint64_t number, page::MapBlock& states) {
  const uint64_t size = core_.size_bytes.load();
  for (uint64_t local = 0; local < kExtentsPerMapBlock; ++local) {
    const uint64_t extent = number * kExtentsPerMapBlock + local;
    if (extent >= page::extent_count(size)) break;
    const PageMask pages = page::pages_of_extent(extent, size);
    const PageMask data = states.on_disk.at(local);
    if ((data & ~pages) != 0) return damaged_journal();
    // A page that cannot be read is found by its reader.
    recheck_pages(core_, extent, data, states).IgnoreError();
    core_.rechecked_pages += page::page_total(data);
    // Space that a write took of which the journal does not tell.
    absl::Status status;
    page::for_each_run(pages & ~data, [&](PageMask run) {
      const uint64_t offset =
          (extent << page::kExtentShift) + (uint64_t{page::first_page(run)} << kPageShift);
      status.Update(core_.calls.punch_hole(core_.files.data.get(), offset,
                                           uint64_t{page::page_total(run)} << kPageShift));
    });
    BLOBCACHE_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

}  // namespace blobcache::volume
