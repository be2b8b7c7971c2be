#include "store/volume/impl/recovery.h"

#include <algorithm>
#include <bit>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/volume/impl/own_page.h"
#include "store/volume/volume.h"

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
      case Record::Kind::kLength:
        if (record.first > Volume::kMaxFileLength || record.second > record.first) {
          return damaged_journal();
        }
        if (numbered.number >= counted) break;
        plan.length = record;
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
  // Of a file that was closed nobody was writing anything when the power was cut.
  const bool was_closed = core_.is_file && header.boot_id == BootId();
  const bool same_boot = header.boot_id == boot_id || was_closed;
  const uint64_t most = core_.is_file ? Volume::kMaxFileLength : header.size_bytes;
  BLOBCACHE_ASSIGN_OR_RETURN(RecoveryPlan plan, plan_recovery(scan, header.journal_start, same_boot,
                                                              page::map_block_count(most)));
  if (core_.is_file) {
    if (plan.length) {
      header.size_bytes = plan.length->first;
      header.base_bytes = plan.length->second;
    }
    core_.length.set({header.size_bytes, header.base_bytes, false});
    BLOBCACHE_RETURN_IF_ERROR(add_blocks_of_file(same_boot, header.is_stale != 0, plan));
    header.is_stale = 0;
  }
  const uint64_t next = scan.last + 1;
  if (!plan.blocks.empty()) {
    BLOBCACHE_RETURN_IF_ERROR(recover_blocks(plan, header));
    ++header.checkpoint;
    core_.recovered = true;
  }
  if (core_.is_file && !was_closed) BLOBCACHE_RETURN_IF_ERROR(cut_data_file());
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

absl::Status Recovery::add_blocks_of_file(bool same_boot, bool is_stale, RecoveryPlan& plan) const {
  // If it became shorter, there may be pages beyond the end of which the journal does not tell.
  if (same_boot && !plan.length && !is_stale) return absl::OkStatus();
  // After a power cut any page may be torn.
  const uint64_t first =
      same_boot ? page::map_block_of(core_.length.bytes() >> page::kExtentShift) : 0;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<uint64_t> stored, core_.map.stored_blocks(first));
  plan.blocks.insert(stored.begin(), stored.end());
  return absl::OkStatus();
}

absl::Status Recovery::recover_blocks(const RecoveryPlan& plan, Header& header) {
  // After a kill the data may be in the kernel alone; the map must not be ahead of it.
  const int data = core_.files.data.get();
  BLOBCACHE_RETURN_IF_ERROR(core_.calls.sync(data));
  BLOBCACHE_RETURN_IF_ERROR(core_.map.make());
  absl::btree_map<uint64_t, std::vector<Record>> states;
  for (const uint64_t number : plan.blocks) states[number];
  for (const Record& record : plan.states) {
    states[page::map_block_of(record.index)].push_back(record);
  }
  for (const auto& [number, records] : states) {
    BLOBCACHE_RETURN_IF_ERROR(recover_block(number, records, header));
  }
  // So with the last page, which may have been changed.
  if (core_.is_file) BLOBCACHE_RETURN_IF_ERROR(core_.calls.sync(data));
  return core_.map.sync();
}

absl::Status Recovery::cut_block(uint64_t number, page::MapBlock& states) {
  const uint64_t length = core_.length.bytes();
  for (uint64_t local = 0; local < kExtentsPerMapBlock; ++local) {
    const uint64_t extent = number * kExtentsPerMapBlock + local;
    const bool is_inside = extent < page::extent_count(length);
    const PageMask pages = is_inside ? page::pages_of_extent(extent, length) : 0;
    states.on_disk.at(local) &= pages;
    states.zero.at(local) &= pages;
  }
  const uint64_t last = length >> kPageShift;
  const uint64_t extent = last / page::kPagesPerExtent;
  const uint64_t in_page = length % page::kPageSize;
  if (in_page == 0 || page::map_block_of(extent) != number) return absl::OkStatus();
  const PageMask page = page::page_mask(static_cast<uint32_t>(last % page::kPagesPerExtent), 1);
  if ((states.on_disk.at(extent % kExtentsPerMapBlock) & page) == 0) return absl::OkStatus();
  // A file that ends before has lost the page; its reader finds that.
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, core_.calls.size_of(core_.files.data.get()));
  if (size < (last + 1) << kPageShift) return absl::OkStatus();
  const std::vector<std::byte> zeros(page::kPageSize - in_page);
  return core_.calls.write(core_.files.data.get(), zeros, length);
}

absl::Status Recovery::cut_data_file() {
  // Space that was taken beyond the end, and of which nothing tells.
  const int data = core_.files.data.get();
  const uint64_t most = data_file_bytes(core_.length.bytes());
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, core_.calls.size_of(data));
  return size > most ? core_.calls.truncate(data, most) : absl::OkStatus();
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
  if (core_.is_file) BLOBCACHE_RETURN_IF_ERROR(cut_block(number, block));
  BLOBCACHE_RETURN_IF_ERROR(recheck(number, block));
  header.data_pages += data_pages_of(block) - data_pages_of(stored.states);
  return core_.map.store(number, block, header.checkpoint + 1, 1 - stored.copy);
}

absl::Status Recovery::recheck(uint64_t number, page::MapBlock& states) {
  const uint64_t size = core_.length.bytes();
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
