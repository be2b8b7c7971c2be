#include "store/volume/impl/page_reader.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "store/page/page_map.h"
#include "store/page/pinned_range.h"
#include "store/volume/impl/own_page.h"

namespace blobcache::volume {

using page::kExtentShift;
using page::kPageShift;
using page::kPageSize;
using page::kPagesPerExtent;
using page::PageMask;

namespace {

/// The part of a run of pages of an extent.
ReadPart part_of(const ReadPart& part, uint64_t extent, PageMask run) {
  const uint64_t run_begin =
      (extent << kExtentShift) + (uint64_t{page::first_page(run)} << kPageShift);
  const uint64_t run_end = run_begin + (uint64_t{page::page_total(run)} << kPageShift);
  const uint64_t begin = std::max(run_begin, part.offset);
  const uint64_t end = std::min(run_end, part.offset + part.into.size());
  return {begin, part.into.subspan(begin - part.offset, end - begin)};
}

}  // namespace

ExtentView view_of(const VolumeCore& core, const Block& block, uint64_t extent, CutState* cut) {
  const uint64_t local = extent % page::kExtentsPerMapBlock;
  ExtentView view;
  PageMask zero = block.states.zero.at(local);
  view.data = block.states.on_disk.at(local);
  view.checksums = block.states.checksum.data() + local * kPagesPerExtent;
  if (const PutBy* put_by = cut == nullptr ? nullptr : cut->find(extent)) {
    zero = put_by->zero;
    view.data = put_by->data;
    view.copied = put_by->copied;
    view.checksums = put_by->checksums.data();
  }
  view.base_bytes = cut == nullptr ? core.length.base_bytes() : cut->base_bytes();
  view.base = base_pages(extent, view.base_bytes) & ~view.data & ~zero;
  return view;
}

bool PageReader::read_now(Block& block, const ReadPart& part) {
  MissingParts missing;
  const Outcome outcome = read_own(block, part, Patience::kNow, missing);
  if (!outcome.status.ok() || !outcome.is_there) return false;
  return std::all_of(missing.begin(), missing.end(),
                     [this](const ReadPart& base_part) { return base_now(base_part); });
}

Run::Kind PageReader::kind_of(const Block& block, uint64_t offset, uint64_t length) {
  const uint64_t extent = offset >> kExtentShift;
  const PageMask touched = page::pages_touched(extent, offset, length);
  const absl::ReaderMutexLock lock(&block.extents.at(extent % page::kExtentsPerMapBlock));
  const ExtentView view = view_of(core_, block, extent, cut_);
  if ((touched & (view.data | view.base)) == 0) return Run::Kind::kZero;
  // The base may end within its last page.
  const bool all_base = (touched & ~view.base) == 0 && offset + length <= view.base_bytes;
  return all_base ? Run::Kind::kBase : Run::Kind::kData;
}

absl::Status PageReader::read(Block& block, const ReadPart& part, MissingParts& missing) {
  constexpr int kTries = 4;
  const size_t before = missing.size();
  for (int i = 0;; ++i) {
    const Outcome outcome =
        read_own(block, part, i < kTries ? Patience::kNow : Patience::kWait, missing);
    if (absl::IsDataLoss(outcome.status)) core_.damaged_pages.fetch_add(1);
    if (outcome.is_there || !outcome.status.ok()) return outcome.status;
    missing.resize(before);
    // Into the kernel's memory, with no lock held. What is read is of no use: it may be torn.
    if (i + 1 < kTries) {
      core_.calls.read(core_.files.data.get(), part.into, part.offset).IgnoreError();
    }
    if (i == 0 && !core_.calls.can_read_now()) i = kTries - 1;
  }
}

PageReader::Outcome PageReader::read_own(Block& block, const ReadPart& part, Patience patience,
                                         MissingParts& missing) {
  const uint64_t extent = part.offset >> kExtentShift;
  const PageMask touched = page::pages_touched(extent, part.offset, part.into.size());
  const absl::ReaderMutexLock lock(&block.extents.at(extent % page::kExtentsPerMapBlock));
  const ExtentView view = view_of(core_, block, extent, cut_);
  Outcome outcome;
  const auto read_from = [&](int fd, PageMask pages) {
    page::for_each_run(pages, [&](PageMask run) {
      if (!outcome.status.ok() || !outcome.is_there) return;
      outcome = read_pages(fd, view, part_of(part, extent, run), patience);
    });
  };
  read_from(core_.files.data.get(), touched & view.data & ~view.copied);
  if ((touched & view.copied) != 0) read_from(cut_->side(), touched & view.data & view.copied);
  page::for_each_run(touched & ~view.data & ~view.base, [&](PageMask run) {
    const ReadPart zeros = part_of(part, extent, run);
    std::fill(zeros.into.begin(), zeros.into.end(), std::byte{0});
  });
  page::for_each_run(touched & view.base, [&](PageMask run) {
    ReadPart base = part_of(part, extent, run);
    const uint64_t end = base.offset + base.into.size();
    if (end > view.base_bytes) {
      // The base ends within its last page.
      const uint64_t beyond = end - std::max(base.offset, view.base_bytes);
      const absl::Span<std::byte> tail = base.into.subspan(base.into.size() - beyond);
      std::fill(tail.begin(), tail.end(), std::byte{0});
      base.into.remove_suffix(beyond);
    }
    if (!base.into.empty()) missing.push_back(base);
  });
  return outcome;
}

PageReader::Outcome PageReader::read_pages(int fd, const ExtentView& view, const ReadPart& part,
                                           Patience patience) {
  // The first and the last page may be wanted in part, and are checked as a whole.
  const uint64_t first = part.offset >> kPageShift;
  const uint64_t end = part.offset + part.into.size();
  for (uint64_t page = first; page << kPageShift < end;) {
    const uint64_t page_begin = page << kPageShift;
    const uint64_t from = std::max(page_begin, part.offset);
    std::array<std::byte, kPageSize> whole;  // NOLINT: filled by the read
    absl::Span<std::byte> bytes = absl::MakeSpan(whole);
    const bool direct = from == page_begin && end - page_begin >= kPageSize;
    if (direct) {
      bytes = part.into.subspan(from - part.offset, (end - from) / kPageSize * kPageSize);
    }
    if (Outcome read = read_file(fd, bytes, page_begin, patience);
        !read.is_there || !read.status.ok()) {
      return read;
    }
    for (size_t at = 0; at < bytes.size(); at += kPageSize, ++page) {
      const uint32_t checksum = view.checksums[page % kPagesPerExtent];
      if (absl::Status status =
              check_own_page(core_.incarnation, page, bytes.subspan(at, kPageSize), checksum);
          !status.ok()) {
        return {std::move(status)};
      }
    }
    if (direct) continue;
    const uint64_t to = std::min(page_begin + kPageSize, end);
    std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(from - page_begin), to - from,
                part.into.begin() + static_cast<std::ptrdiff_t>(from - part.offset));
  }
  return {};
}

PageReader::Outcome PageReader::read_file(int fd, absl::Span<std::byte> into, uint64_t offset,
                                          Patience patience) const {
  if (patience == Patience::kNow) return {absl::OkStatus(), core_.calls.read_now(fd, into, offset)};
  return {core_.calls.read(fd, into, offset)};
}

bool PageReader::base_now(const ReadPart& part) {
  page::PinnedRange range;
  if (!core_.options.base->try_read(part.offset, part.into.size(), range)) return false;
  size_t at = 0;
  for (const iovec& piece : range.pieces()) {
    std::memcpy(part.into.data() + at, piece.iov_base, piece.iov_len);
    at += piece.iov_len;
  }
  return true;
}

}  // namespace blobcache::volume
