#include "net/impl/written_pages.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"

namespace blobcache::net {

WrittenPages::WrittenPages(uint64_t size_bytes, size_t max_chunks)
    : max_chunks_(max_chunks), whole_(page::page_count(size_bytes) / kChunkPages + 1) {}

void WrittenPages::mark(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  const uint64_t first = offset >> page::kPageShift;
  const uint64_t end = ((offset + length - 1) >> page::kPageShift) + 1;
  const absl::MutexLock lock(&mutex_);
  for (uint64_t page = first; page < end;) {
    const uint64_t chunk = page / kChunkPages;
    const uint64_t stop = std::min(end, (chunk + 1) * kChunkPages);
    mark_in_chunk(chunk, page % kChunkPages, stop - chunk * kChunkPages);
    page = stop;
  }
}

void WrittenPages::mark_in_chunk(uint64_t chunk, uint64_t first, uint64_t end) {
  if (whole_[chunk]) return;
  const bool all = first == 0 && end == kChunkPages;
  const auto found = chunks_.find(chunk);
  if (all || (found == chunks_.end() && chunks_.size() >= max_chunks_)) {
    whole_[chunk] = true;
    if (found != chunks_.end()) chunks_.erase(found);
    return;
  }
  std::unique_ptr<Chunk>& bits = chunks_[chunk];
  if (!bits) bits = std::make_unique<Chunk>();
  for (uint64_t page = first; page < end;) {
    const uint64_t stop = std::min(end, (page / 64 + 1) * 64);
    (*bits)[page / 64] |=
        page::page_mask(static_cast<uint32_t>(page % 64), static_cast<uint32_t>(stop - page));
    page = stop;
  }
}

bool WrittenPages::is_written(uint64_t page) const {
  if (whole_[page / kChunkPages]) return true;
  const auto found = chunks_.find(page / kChunkPages);
  if (found == chunks_.end()) return false;
  const uint64_t bit = page % kChunkPages;
  return ((*found->second)[bit / 64] >> (bit % 64) & 1) != 0;
}

uint64_t WrittenPages::run(uint64_t offset, uint64_t length, bool& written) const {
  const uint64_t first = offset >> page::kPageShift;
  const uint64_t end = ((offset + length - 1) >> page::kPageShift) + 1;
  const absl::ReaderMutexLock lock(&mutex_);
  written = is_written(first);
  uint64_t page = first + 1;
  while (page < end) {
    const uint64_t chunk = page / kChunkPages;
    if (page % kChunkPages == 0 && !written && !whole_[chunk] && !chunks_.contains(chunk)) {
      page += kChunkPages;  // an untouched chunk is passed over at once
      continue;
    }
    if (is_written(page) != written) break;
    ++page;
  }
  const uint64_t stop = std::min(page, end) << page::kPageShift;
  return std::min(stop - offset, length);
}

bool WrittenPages::none(uint64_t offset, uint64_t length) const {
  bool written = false;
  return run(offset, length, written) == length && !written;
}

size_t WrittenPages::chunks() const {
  const absl::ReaderMutexLock lock(&mutex_);
  return chunks_.size();
}

}  // namespace blobcache::net
