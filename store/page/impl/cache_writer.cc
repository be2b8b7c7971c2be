#include "store/page/impl/cache_writer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/impl/io_batch.h"
#include "store/page/impl/map_editor.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// The last page was written whole; the file gets the object's size again.
void cut_to_size(const Fill& fill, const DiskCalls& calls) {
  const uint64_t size = fill.object->size_bytes();
  const uint64_t last_page = page_count(size) - 1;
  const auto last = page_mask(static_cast<uint32_t>(last_page % kPagesPerExtent), 1);
  if (size % kPageSize == 0 || fill.extent != last_page / kPagesPerExtent) return;
  if ((fill.pages & last) == 0) return;
  const absl::StatusOr<OpenFilesRef> files = fill.object->file().open();
  if (!files.ok() || calls.truncate((*files)->data.get(), size) != 0) {
    spdlog::warn("object {}: its file is larger than it", fill.object->key().hex());
  }
}

/// What was written and will not be known: its blocks go, since nobody counts them.
void give_back(const Fill& fill, PageMask pages, const DiskTier& disk) {
  const absl::StatusOr<OpenFilesRef> files = fill.object->file().open();
  if (!files.ok()) return;
  for_each_run(pages, [&](PageMask run) {
    const uint64_t at = (fill.extent << kExtentShift) + (uint64_t{first_page(run)} << kPageShift);
    const absl::Status punched =
        disk.punch_hole((*files)->data.get(), at, uint64_t{page_total(run)} << kPageShift);
    if (!punched.ok()) spdlog::warn("{}", base::message(punched));
  });
}

/// What is cached may push expired blobs out until it has this part of the budget.
constexpr uint64_t kLeastShare = 16;

/// How many objects they are of: as many may be without files.
size_t objects_of(const std::vector<Fill>& fills) {
  absl::flat_hash_set<const ObjectImpl*> objects;
  for (const Fill& fill : fills) objects.insert(fill.object.get());
  return objects.size();
}

}  // namespace

void CacheWriter::write(std::vector<Fill>& fills) {
  std::vector<Pin> pins;
  for (const Fill& fill : fills) pins.push_back(fill.pin);

  sort_out(fills);
  uint64_t bytes = 0;
  for (const Fill& fill : fills) bytes += fill.bytes();
  // At worst each needs a map block of its own, and a header.
  const uint64_t taken = bytes + 2 * fills.size() * kMapBlockSize;
  if (!fills.empty()) {
    if (state_.disk.health().may_write() &&
        state_.disk.budget().inodes_left(2 * objects_of(fills)) && make_room(taken, fills.size())) {
      const uint64_t before = state_.bytes();
      write_data(fills);
      publish(fills);
      state_.disk.budget().correct_fill(static_cast<int64_t>(state_.bytes() - before) -
                                        static_cast<int64_t>(taken));
    } else {
      state_.core->counters.add(Counters::kFillDroppedBytes, bytes);
    }
  }
  for (const Pin pin : pins) state_.core->memory.pool().unpin(pin);
}

void CacheWriter::sort_out(std::vector<Fill>& fills) {
  absl::flat_hash_map<ExtentId, PageMask> seen;
  for (Fill& fill : fills) {
    const ExtentId id{fill.object->id(), fill.extent};
    const Extent& extent = fill.object->extents().get(fill.extent);
    {
      absl::MutexLock lock(&state_.core->flights.shard(id).mutex);
      fill.pages &= ~(extent.on_disk.load() | extent.zero.load());
    }
    fill.pages &= ~seen[id];
    seen[id] |= fill.pages;
    const std::byte* memory = state_.core->memory.pool().data(fill.pin.frame);
    for (PageMask left = fill.pages; left != 0; left &= left - 1) {
      const uint32_t page = first_page(left);
      if (is_zero({memory + (uint64_t{page} << kPageShift), kPageSize})) {
        fill.zeros |= page_mask(page, 1);
      }
    }
    fill.pages &= ~fill.zeros;
  }
  std::erase_if(fills, [](const Fill& fill) { return (fill.pages | fill.zeros) == 0; });
}

void CacheWriter::ask_for_blobs(uint64_t bytes) {
  const DiskBudget::Usage usage = state_.disk.budget().usage();
  // Blobs that have expired cannot be had again, so what is cached takes their place only where it
  // has next to none of its own.
  if (usage.filled >= usage.budget / kLeastShare) return;
  const uint64_t over = usage.used + bytes > usage.budget ? usage.used + bytes - usage.budget : 0;
  const uint64_t lacking = std::max(over, state_.disk.budget().short_of_space(bytes));
  if (lacking > 0) state_.disk.budget().reclaim_blobs(lacking);
}

bool CacheWriter::make_room(uint64_t bytes, size_t extents) {
  ask_for_blobs(bytes);
  const auto lacks_slots = [&] {
    absl::MutexLock lock(&state_.mutex);
    return state_.extents->free_slots() < extents;
  };
  while (lacks_slots()) {
    if (evictor_.evict(kExtentSize) == 0) return false;
  }
  if (const uint64_t lacking = state_.disk.budget().short_of_space(bytes); lacking > 0) {
    if (evictor_.evict(lacking) == 0 || state_.disk.budget().short_of_space(bytes) > 0)
      return false;
  }
  while (!state_.disk.budget().take_fill(bytes)) {
    const DiskBudget::Usage usage = state_.disk.budget().usage();
    const uint64_t wanted = usage.used + bytes;
    if (evictor_.evict(wanted > usage.budget ? wanted - usage.budget : kPageSize) == 0)
      return false;
  }
  return true;
}

absl::StatusOr<OpenFilesRef> CacheWriter::open_files(ObjectImpl& object) {
  absl::StatusOr<OpenFilesRef> files = object.file().open();
  if (!absl::IsNotFound(files.status())) return files;
  BLOBCACHE_RETURN_IF_ERROR(state_.folder.create(
      {kPageMapVersion, object.key(), object.incarnation(), object.size_bytes()}));
  return object.file().open();
}

void CacheWriter::write_data(std::vector<Fill>& fills) {
  struct Write {
    Fill* fill;
    PageMask run;
    int result;
  };
  std::deque<Write> writes;
  std::vector<OpenFilesRef> open;
  absl::Status status;
  IoBatch batch;
  for (Fill& fill : fills) {
    absl::StatusOr<OpenFilesRef> files = open_files(*fill.object);
    if (!files.ok()) {
      status.Update(files.status());
      fill.pages = fill.zeros = 0;
      continue;
    }
    const std::byte* memory = state_.core->memory.pool().data(fill.pin.frame);
    for_each_run(fill.pages, [&](PageMask run) {
      Write& write = writes.emplace_back(Write{&fill, run, 0});
      const uint64_t at = uint64_t{first_page(run)} << kPageShift;
      const uint64_t bytes = uint64_t{page_total(run)} << kPageShift;
      state_.disk.counters().add(Counters::kDiskWrittenBytes, bytes);
      state_.disk.ring().write((*files)->data.get(), {memory + at, bytes},
                               (fill.extent << kExtentShift) + at, batch.add(write.result));
    });
    open.push_back(*std::move(files));
  }
  batch.wait();
  for (const Write& write : writes) {
    state_.disk.health().judge(DiskStep::Kind::kWrite, write.result);
    if (write.result == 0) continue;
    write.fill->pages &= ~write.run;
    give_back(*write.fill, write.run, state_.disk);
    status.Update(base::errno_error(-write.result, "writing cached pages"));
  }
  for (const Fill& fill : fills) cut_to_size(fill, state_.disk.calls());
  if (!status.ok()) {
    state_.disk.log_failure(fmt::format("the disk does not cache: {}", base::message(status)));
  }
}

void CacheWriter::publish(std::vector<Fill>& fills) {
  MapEditor editor(state_.disk, state_.core->maps);
  for (Fill& fill : fills) {
    if ((fill.pages | fill.zeros) == 0) continue;
    const absl::StatusOr<MapBlock*> block = editor.edit(fill.object, fill.extent);
    if (block.ok() && enter(fill, **block)) continue;
    give_back(fill, fill.pages, state_.disk);
    fill.pages = fill.zeros = 0;
  }
  if (const absl::Status written = editor.write(); !written.ok()) {
    state_.disk.log_failure(fmt::format("the disk does not cache: {}", base::message(written)));
    // As if they had not been written: who reads them brings them again, and they are written
    // again.
    return;
  }
  for (const Fill& fill : fills) {
    Extent& extent = fill.object->extents().get(fill.extent);
    absl::MutexLock lock(&state_.core->flights.shard({fill.object->id(), fill.extent}).mutex);
    extent.on_disk.fetch_or(fill.pages, std::memory_order_relaxed);
    extent.zero.fetch_or(fill.zeros, std::memory_order_relaxed);
    state_.core->counters.add(Counters::kFilledBytes, fill.bytes());
  }
}

bool CacheWriter::enter(const Fill& fill, MapBlock& block) {
  const uint64_t local = fill.extent % kExtentsPerMapBlock;
  if (fill.pages != 0) {
    const uint32_t pages = page_total(block.on_disk.at(local) | fill.pages);
    absl::MutexLock lock(&state_.mutex);
    if (!state_.extents->count_pages(file_of(*fill.object), static_cast<uint32_t>(fill.extent),
                                     pages)) {
      return false;
    }
  }
  const std::byte* memory = state_.core->memory.pool().data(fill.pin.frame);
  // What came last counts, should a source have changed its mind about a page that was lost.
  block.on_disk.at(local) = (block.on_disk.at(local) | fill.pages) & ~fill.zeros;
  block.zero.at(local) = (block.zero.at(local) | fill.zeros) & ~fill.pages;
  for (PageMask left = fill.pages; left != 0; left &= left - 1) {
    const uint32_t page = first_page(left);
    const uint32_t crc = crc32c({memory + (uint64_t{page} << kPageShift), kPageSize});
    block.checksum.at(local * kPagesPerExtent + page) =
        page_checksum(crc, fill.object->incarnation(), fill.extent * kPagesPerExtent + page);
  }
  return true;
}

CachedFile& CacheWriter::file_of(const ObjectImpl& object) {
  // An object that is in use keeps its place in the table.
  CachedFile* file = state_.extents->find(object.key());
  return file != nullptr
             ? *file
             : state_.extents->add(object.key(), object.incarnation(), object.size_bytes());
}

}  // namespace blobcache::page
