#include "store/volume/impl/cut_state.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::volume {

using page::kExtentShift;
using page::kPageShift;
using page::PageMask;

void CutState::give_back() {
  const uint64_t bytes = charged_.exchange(0);
  if (parts_.budget != nullptr) parts_.budget->give(bytes);
}

const PutBy* CutState::find(uint64_t extent) {
  const absl::MutexLock lock(&mutex_);
  const auto at = extents_.find(extent);
  return at == extents_.end() ? nullptr : at->second.get();
}

bool CutState::is_settled(const Block& block, uint64_t extent, PageMask pages) {
  if (block.frozen.at(extent % page::kExtentsPerMapBlock) != parts_.epoch) return false;
  const PutBy* put_by = find(extent);
  return put_by != nullptr && (pages & put_by->data & ~put_by->copied) == 0;
}

PutBy& CutState::entry_of(Block& block, uint64_t extent) {
  const uint64_t local = extent % page::kExtentsPerMapBlock;
  const absl::MutexLock lock(&mutex_);
  std::unique_ptr<PutBy>& entry = extents_[extent];
  // A block that was out of memory for a while does not know what it was marked with.
  block.frozen.at(local) = parts_.epoch;
  if (entry == nullptr) {
    entry = std::make_unique<PutBy>();
    entry->data = block.states.on_disk.at(local);
    entry->zero = block.states.zero.at(local);
    std::copy_n(block.states.checksum.begin() + local * page::kPagesPerExtent,
                page::kPagesPerExtent, entry->checksums.begin());
  }
  return *entry;
}

void CutState::put_by(Block& block, uint64_t extent, PageMask pages, int data) {
  PutBy& entry = entry_of(block, extent);
  page::for_each_run(pages & entry.data & ~entry.copied, [&](PageMask run) {
    if (absl::Status status = this->status(); status.ok()) {
      status = copy(extent, run, data);
      if (!status.ok()) {
        const absl::MutexLock lock(&mutex_);
        loss_ = base::annotate(status, "the cut is lost");
      }
    }
    // Without a copy nobody reads them; the writer goes on.
    entry.copied |= run;
  });
}

absl::Status CutState::copy(uint64_t extent, PageMask run, int data) {
  const uint64_t bytes = uint64_t{page::page_total(run)} << kPageShift;
  if (parts_.budget != nullptr) BLOBCACHE_RETURN_IF_ERROR(parts_.budget->take(bytes));
  charged_.fetch_add(bytes);
  const uint64_t offset =
      (extent << kExtentShift) + (uint64_t{page::first_page(run)} << kPageShift);
  std::vector<std::byte> buffer(bytes);
  BLOBCACHE_RETURN_IF_ERROR(parts_.calls->read(data, absl::MakeSpan(buffer), offset));
  return parts_.calls->write(parts_.side.get(), buffer, offset);
}

absl::Status CutState::status() const {
  const absl::MutexLock lock(&mutex_);
  return loss_;
}

}  // namespace blobcache::volume
