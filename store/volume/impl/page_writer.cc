#include "store/volume/impl/page_writer.h"

#include <algorithm>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "store/page/checksum.h"
#include "store/page/page_map.h"
#include "store/volume/impl/own_page.h"

namespace blobcache::volume {

using page::kExtentShift;
using page::kPageShift;
using page::kPageSize;
using page::kPagesPerExtent;
using page::PageMask;

namespace {

uint64_t local_of(uint64_t extent) { return extent % page::kExtentsPerMapBlock; }

void give_back(VolumeCore& core, uint64_t pages) {
  core.data_pages.fetch_sub(pages, std::memory_order_relaxed);
  core.charge.give(pages << kPageShift);
}

absl::Status charge(VolumeCore& core, uint64_t pages) {
  absl::Status status = core.charge.take(pages << kPageShift);
  if (status.ok()) core.data_pages.fetch_add(pages, std::memory_order_relaxed);
  return status;
}

}  // namespace

Applied PageWriter::write(Block& block, const PageRun& run, const std::byte* bytes,
                          absl::Status& why) {
  // Of the bytes that were submitted, and before the lock, as it takes longer than the rest.
  Checksums checksums;  // NOLINT: filled as far as it is used
  for (uint32_t i = 0; i < run.count; ++i) {
    checksums.at(i) = own_checksum(core_.incarnation, run.first_page() + i, bytes + i * kPageSize);
  }
  const absl::MutexLock lock(&block.extents.at(local_of(run.extent)));
  return write_locked(block, run, bytes, checksums, why);
}

Applied PageWriter::read_page(const Block& block, const PageRun& run, absl::Span<std::byte> page,
                              absl::Status& why) {
  const int data = core_.files.data.get();
  if (on_worker_) {
    why = core_.calls.read(data, page, run.offset());
  } else if (!core_.calls.read_now(data, page, run.offset())) {
    return Applied::kWait;
  }
  if (why.ok()) {
    const uint64_t place = local_of(run.extent) * kPagesPerExtent + run.first;
    why =
        check_own_page(core_.incarnation, run.first_page(), page, block.states.checksum.at(place));
  }
  if (absl::IsDataLoss(why)) core_.damaged_pages.fetch_add(1);
  return why.ok() ? Applied::kDone : Applied::kFailed;
}

Applied PageWriter::write_part(Block& block, const PartOfPage& part, absl::Status& why) {
  PageRun run{part.page / kPagesPerExtent, static_cast<uint32_t>(part.page % kPagesPerExtent), 1};
  const uint64_t end = run.offset() + part.begin + part.length;
  if (part.grows) run.end = end;
  const uint64_t local = local_of(run.extent);
  std::array<std::byte, kPageSize> page{};
  const absl::MutexLock lock(&block.extents.at(local));
  if (part.bytes == nullptr && to_be_zero(block, run.extent, run.mask()) == 0) {
    return Applied::kDone;
  }
  if (!block.has_intent) return Applied::kNoIntent;
  const uint64_t base_bytes = core_.length.base_bytes();
  if (part.begin == 0 && end >= core_.length.bytes()) {
    // What is around it is beyond the volume's end, and zero.
  } else if ((block.states.on_disk.at(local) & run.mask()) != 0) {
    const Applied read = read_page(block, run, absl::MakeSpan(page), why);
    if (read != Applied::kDone) return read;
  } else if ((base_pages(run.extent, base_bytes) & ~block.states.zero.at(local) & run.mask()) !=
             0) {
    if (part.base_page == nullptr) return Applied::kNoBase;
    // Less of it may be seen than when it was asked.
    std::copy_n(part.base_page, std::min(kPageSize, base_bytes - run.offset()), page.begin());
  }
  if (part.bytes == nullptr) {
    std::fill_n(page.begin() + part.begin, part.length, std::byte{0});
  } else {
    std::copy_n(part.bytes, part.length, page.begin() + part.begin);
  }
  Checksums checksums;  // NOLINT: filled as far as it is used
  checksums[0] = own_checksum(core_.incarnation, part.page, page.data());
  return write_locked(block, run, page.data(), checksums, why);
}

Applied PageWriter::clear_tail(Block& block, uint64_t length, absl::Status& why) {
  const uint64_t number = length >> kPageShift;
  const PageRun run{number / kPagesPerExtent, static_cast<uint32_t>(number % kPagesPerExtent), 1};
  const uint64_t local = local_of(run.extent);
  std::array<std::byte, kPageSize> page{};
  const absl::MutexLock lock(&block.extents.at(local));
  // Of a page of the base no more is seen.
  if ((block.states.on_disk.at(local) & run.mask()) == 0) return Applied::kDone;
  const Applied read = read_page(block, run, absl::MakeSpan(page), why);
  if (read != Applied::kDone) return read;
  const absl::Span<std::byte> tail = absl::MakeSpan(page).subspan(length % kPageSize);
  if (page::is_zero(tail)) return Applied::kDone;
  std::fill(tail.begin(), tail.end(), std::byte{0});
  Checksums checksums;  // NOLINT: filled as far as it is used
  checksums[0] = own_checksum(core_.incarnation, number, page.data());
  return write_locked(block, run, page.data(), checksums, why);
}

Applied PageWriter::write_locked(Block& block, const PageRun& run, const std::byte* bytes,
                                 const Checksums& checksums, absl::Status& why) {
  if (!block.has_intent) return Applied::kNoIntent;
  const uint64_t local = local_of(run.extent);
  PageMask& data = block.states.on_disk.at(local);
  const PageMask fresh = run.mask() & ~data;
  if (core_.is_file && core_.length.must_be_cleaned(run.end)) return Applied::kStale;
  if (!settle_cut(block, run.extent, run.mask())) return Applied::kCut;
  const bool grows = core_.is_file && run.end > core_.length.bytes();
  if ((fresh != 0 || grows) && !core_.journal.has_room(Record::Kind::kState)) {
    return Applied::kNoRoom;
  }
  if (fresh != 0) {
    why = charge(core_, page::page_total(fresh));
    if (!why.ok()) return Applied::kFailed;
  }
  why = core_.calls.write(core_.files.data.get(), {bytes, run.bytes()}, run.offset());
  core_.note_unsynced();
  if (why.ok()) why = tell(block, run, fresh);
  block.dirty.store(true);
  if (!why.ok()) {
    take_back(block, run, fresh);
    return Applied::kFailed;
  }
  data |= run.mask();
  block.states.zero.at(local) &= ~run.mask();
  std::copy_n(checksums.begin(), run.count,
              block.states.checksum.begin() + local * kPagesPerExtent + run.first);
  return Applied::kDone;
}

absl::Status PageWriter::tell(const Block& block, const PageRun& run, PageMask fresh) {
  const uint64_t local = local_of(run.extent);
  const Record state{Record::Kind::kState, static_cast<uint32_t>(run.extent),
                     block.states.on_disk.at(local) | fresh, block.states.zero.at(local) & ~fresh};
  if (core_.is_file) return core_.length.wrote(fresh == 0 ? nullptr : &state, run.end);
  return fresh == 0 ? absl::OkStatus() : core_.journal.append(state);
}

bool PageWriter::settle_cut(Block& block, uint64_t extent, PageMask pages) {
  if (core_.cut_epoch.load() == 0) return true;
  const std::shared_ptr<CutState> cut = core_.active_cut();
  if (cut == nullptr || cut->is_settled(block, extent, pages)) return true;
  if (on_worker_) cut->put_by(block, extent, pages, core_.files.data.get());
  return on_worker_;
}

void PageWriter::take_back(Block& block, const PageRun& run, PageMask fresh) {
  give_back(core_, page::page_total(fresh));
  if (core_.is_file) clear_beyond(run, run.mask() & ~fresh);
  checksum_again(block, run.extent, run.mask() & ~fresh);
  // What it took is of no page's now; if it cannot be given back, the next recovery tries again.
  punch(run.extent, fresh).IgnoreError();
}

void PageWriter::clear_beyond(const PageRun& run, PageMask pages) {
  const uint64_t length = core_.length.bytes();
  const uint64_t begin = run.offset();
  if (length % kPageSize == 0 || length < begin || length >= begin + run.bytes()) return;
  const auto page = static_cast<uint32_t>((length >> kPageShift) % kPagesPerExtent);
  if ((pages & page::page_mask(page, 1)) == 0) return;
  const std::array<std::byte, kPageSize> zeros{};
  const uint64_t tail = kPageSize - length % kPageSize;
  // Recovery looks at the last page, too.
  absl::Status status = core_.calls.write(core_.files.data.get(), {zeros.data(), tail}, length);
  if (!status.ok()) core_.fail(status);
}

void PageWriter::checksum_again(Block& block, uint64_t extent, PageMask pages) {
  recheck_pages(core_, extent, pages, block.states).IgnoreError();
}

Applied PageWriter::make_zero(Block& block, uint64_t extent, PageMask pages, absl::Status& why) {
  const uint64_t local = local_of(extent);
  const absl::MutexLock lock(&block.extents.at(local));
  const PageMask change = to_be_zero(block, extent, pages);
  if (change == 0) return Applied::kDone;
  if (!block.has_intent) return Applied::kNoIntent;
  if (!settle_cut(block, extent, change)) return Applied::kCut;
  if (!core_.journal.has_room(Record::Kind::kState)) return Applied::kNoRoom;
  PageMask& data = block.states.on_disk.at(local);
  PageMask& zero = block.states.zero.at(local);
  const PageMask punched = data & change;
  // The journal first: a page that is punched already and still the volume's own would have the
  // wrong checksum.
  why = core_.journal.append(
      {Record::Kind::kState, static_cast<uint32_t>(extent), data & ~change, zero | change});
  if (!why.ok()) return Applied::kFailed;
  data &= ~change;
  zero |= change;
  block.dirty.store(true);
  give_back(core_, page::page_total(punched));
  why = punch(extent, punched);
  core_.note_unsynced();
  return why.ok() ? Applied::kDone : Applied::kFailed;
}

bool PageWriter::changes_by_zeros(const Block& block, uint64_t extent, PageMask pages) const {
  const absl::ReaderMutexLock lock(&block.extents.at(local_of(extent)));
  return to_be_zero(block, extent, pages) != 0;
}

PageMask PageWriter::to_be_zero(const Block& block, uint64_t extent, PageMask pages) const {
  const uint64_t local = local_of(extent);
  const PageMask data = block.states.on_disk.at(local);
  const PageMask of_base =
      base_pages(extent, core_.length.base_bytes()) & ~block.states.zero.at(local);
  return pages & (data | of_base);
}

absl::Status PageWriter::punch(uint64_t extent, PageMask pages) {
  absl::Status status;
  page::for_each_run(pages, [&](PageMask run) {
    const uint64_t offset =
        (extent << kExtentShift) + (uint64_t{page::first_page(run)} << kPageShift);
    status.Update(core_.calls.punch_hole(core_.files.data.get(), offset,
                                         uint64_t{page::page_total(run)} << kPageShift));
  });
  return status;
}

}  // namespace blobcache::volume
