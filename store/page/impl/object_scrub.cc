#include "store/page/impl/object_scrub.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/impl/map_repairer.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr uint32_t kBufferPages = kBufferBytes >> kPageShift;

/// A scrub waits for fetches of readers in steps of a millisecond, and never longer than this
/// before a read, so that it gets on under a load that never ends.
constexpr int kYieldSteps = 20;

/// So many reads in a row may fail before the health of the disk is told of it.
constexpr uint32_t kPatience = 1024;

constexpr int kOpenFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

constexpr std::string_view kMismatch = "pages do not match their checksums";
constexpr std::string_view kCutShort = "the file is cut short";

std::string errno_text(int error) { return std::generic_category().message(error); }

}  // namespace

ObjectScrub::ObjectScrub(const ScrubParts& parts, const ObjectSpec& spec, ScrubControl& control)
    : parts_(parts),
      spec_(spec),
      control_(control),
      has_map_file_(spec.inline_map.empty()),
      hash_(parts.hash ? parts.hash() : nullptr),
      buffer_(allocate_aligned(kBufferBytes)) {
  states_.reserve(kBufferPages);
}

absl::StatusOr<ScrubResult> ObjectScrub::run() {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool opened, open_data());
  if (!opened) return std::move(result_);
  if (has_map_file_) {
    BLOBCACHE_RETURN_IF_ERROR(open_map());
    BLOBCACHE_RETURN_IF_ERROR(check_header());
  }
  for (uint64_t block = 0; block < map_block_count(spec_.size_bytes); ++block) {
    BLOBCACHE_RETURN_IF_ERROR(check_block(block));
  }
  if (file_bytes_ < spec_.size_bytes) {
    // A tail of zeros needs no bytes of the file; the file is not what was written all the same.
    result_.add_reason(kCutShort);
  } else {
    check_hash();
  }
  return std::move(result_);
}

absl::StatusOr<base::UniqueFd> ObjectScrub::open_file(const std::filesystem::path& path) {
  absl::StatusOr<base::UniqueFd> file = parts_.core.disk.open_file(path, kOpenFlags);
  const bool known = file.ok() || absl::IsNotFound(file.status());
  // A file that cannot be opened is damage: it is tried twice.
  return known ? std::move(file) : parts_.core.disk.open_file(path, kOpenFlags);
}

absl::StatusOr<bool> ObjectScrub::open_data() {
  const std::filesystem::path path = parts_.core.disk.object_path(spec_.key, spec_.incarnation);
  absl::StatusOr<base::UniqueFd> data = open_file(path);
  if (absl::IsUnavailable(data.status())) return data.status();
  if (absl::IsNotFound(data.status())) {
    note_whole("its file is gone");
    return false;
  }
  struct stat info{};
  if (!data.ok() || ::fstat(data->get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    note_whole("its file cannot be opened");
    return false;
  }
  file_bytes_ = static_cast<uint64_t>(info.st_size);
  written_ns_ = written_ns(info);
  if (file_bytes_ > spec_.size_bytes) {
    note_whole("its file is larger than the object");
    return false;
  }
  data_ = *std::move(data);
  return true;
}

absl::Status ObjectScrub::open_map() {
  const std::string path = parts_.core.disk.object_path(spec_.key, spec_.incarnation).string();
  absl::StatusOr<base::UniqueFd> map = open_file(path + std::string(kMapSuffix));
  if (absl::IsUnavailable(map.status())) return map.status();
  // One that is not there shows as one that cannot be read.
  map_ = map.ok() ? *std::move(map) : base::UniqueFd();
  return absl::OkStatus();
}

absl::Status ObjectScrub::check_header() {
  BLOBCACHE_RETURN_IF_ERROR(before_read(kMapBlockSize));
  const absl::Span<std::byte> bytes(buffer_.get(), kMapBlockSize);
  const int error = read_map(bytes, 0);
  std::string why;
  if (error != 0) {
    why = map_.valid() ? fmt::format("cannot be read ({})", errno_text(-error)) : "is missing";
  } else {
    const absl::StatusOr<MapHeader> header = decode_map_header(bytes);
    const MapHeader expected{kPageMapVersion, spec_.key, spec_.incarnation, spec_.size_bytes};
    if (header.ok() && *header == expected) {
      result_.checked_bytes += kMapBlockSize;
      return absl::OkStatus();
    }
    why = "is damaged";
  }
  return repair_map(why).status();
}

absl::StatusOr<MapBlock> ObjectScrub::read_block(uint64_t number) {
  if (!has_map_file_) {
    return decode_inline_map(spec_.inline_map, spec_.size_bytes, spec_.incarnation);
  }
  BLOBCACHE_RETURN_IF_ERROR(before_read(kMapBlockSize));
  const absl::Span<std::byte> bytes(buffer_.get(), kMapBlockSize);
  const int error = read_map(bytes, map_block_offset(number));
  if (error != 0) return absl::DataLossError("cannot be read");
  absl::StatusOr<MapBlock> block = decode_map_block(bytes, number, spec_.incarnation);
  if (block.ok()) result_.checked_bytes += kMapBlockSize;
  return block;
}

absl::StatusOr<bool> ObjectScrub::load_block(uint64_t number) {
  absl::StatusOr<MapBlock> block = read_block(number);
  if (absl::IsDataLoss(block.status())) {
    parts_.core.counters.add(Counters::kMapErrors);
    BLOBCACHE_ASSIGN_OR_RETURN(const bool repaired, repair_map("is damaged"));
    if (!repaired) return false;
    block = read_block(number);
  }
  if (!block.ok()) {
    if (!absl::IsDataLoss(block.status())) return block.status();
    result_.add_reason("its page map is damaged");
    return false;
  }
  block_ = *std::move(block);
  return true;
}

absl::StatusOr<bool> ObjectScrub::repair_map(std::string_view why) {
  if (std::exchange(repair_tried_, true)) return false;
  // As a reader would: by the object, which others may have in use.
  struct Outcome {
    absl::Notification known;
    absl::Status status;
  };
  const auto outcome = std::make_shared<Outcome>();
  const bool was_here = parts_.objects.find(spec_.key, spec_.incarnation) != nullptr;
  std::shared_ptr<ObjectImpl> object = parts_.objects.attach(spec_, parts_.core);
  parts_.repairer.repair(object, [outcome](absl::Status status) {
    outcome->status = std::move(status);
    outcome->known.Notify();
  });
  while (!outcome->known.WaitForNotificationWithTimeout(absl::Milliseconds(20))) {
    if (!control_.may_read(0)) return absl::CancelledError("the scrub was ended");
  }
  result_.map_repaired = outcome->status.ok();
  if (outcome->status.ok() && !has_map_file_) {
    result_.inline_map = object->inline_map();
    spec_.inline_map = result_.inline_map;
  }
  const bool is_cold = object->frames() == 0;
  object.reset();
  // Who was not in use before does not take a place in the table from those who were.
  if (!was_here && is_cold) (void)parts_.objects.take_idle(spec_.key, spec_.incarnation);
  if (!result_.map_repaired) {
    result_.add_reason(fmt::format("its page map {}, and cannot be made again from its file", why));
    return false;
  }
  result_.add_reason(fmt::format("its page map {}; it was made again from its file", why));
  if (has_map_file_) BLOBCACHE_RETURN_IF_ERROR(open_map());
  return true;
}

absl::Status ObjectScrub::check_block(uint64_t number) {
  const uint64_t begin = number * kPagesPerMapBlock;
  const uint64_t end = std::min(begin + kPagesPerMapBlock, page_count(spec_.size_bytes));
  BLOBCACHE_ASSIGN_OR_RETURN(const bool loaded, load_block(number));
  if (!loaded) {
    result_.damaged_pages += end - begin;
    result_.damaged.add({begin << kPageShift, bytes_of(begin, end - begin)});
    hash_ = nullptr;
    return absl::OkStatus();
  }
  for (uint64_t page = begin; page < end; page += kBufferPages) {
    const auto pages = static_cast<uint32_t>(std::min<uint64_t>(kBufferPages, end - page));
    BLOBCACHE_RETURN_IF_ERROR(check_chunk({page, pages}));
  }
  return absl::OkStatus();
}

/// What the map says of each page of the chunk.
void ObjectScrub::sort_pages(const Chunk& chunk) {
  states_.clear();
  for (uint64_t page = chunk.first_page; page < chunk.first_page + chunk.pages; ++page) {
    const uint64_t local = page / kPagesPerExtent % kExtentsPerMapBlock;
    const PageMask bit = page_mask(static_cast<uint32_t>(page % kPagesPerExtent), 1);
    if ((block_.on_disk.at(local) & bit) != 0) {
      states_.push_back(PageState::kData);
    } else {
      const bool zero = (block_.zero.at(local) & bit) != 0;
      states_.push_back(zero ? PageState::kZero : PageState::kAbsent);
    }
  }
}

absl::Status ObjectScrub::check_chunk(const Chunk& chunk) {
  sort_pages(chunk);
  BLOBCACHE_RETURN_IF_ERROR(before_read(0));
  for (uint32_t page = 0; page < chunk.pages;) {
    const PageState state = states_[page];
    const uint32_t first = page;
    while (page < chunk.pages && states_[page] == state) ++page;
    if (state == PageState::kData) {
      BLOBCACHE_RETURN_IF_ERROR(check_run(chunk, first, page - first));
    } else {
      std::memset(memory_of(first), 0, uint64_t{page - first} << kPageShift);
    }
  }
  result_.checked_pages += chunk.pages;
  note_damage(chunk);
  note_verified(chunk);
  if (hash_ != nullptr) hash_->update({buffer_.get(), bytes_of(chunk.first_page, chunk.pages)});
  return absl::OkStatus();
}

absl::Status ObjectScrub::check_run(const Chunk& chunk, uint32_t first, uint32_t count) {
  const uint64_t bytes = uint64_t{count} << kPageShift;
  BLOBCACHE_RETURN_IF_ERROR(before_read(bytes));
  if (read_pages(chunk, first, count) == 0) {
    compare_run(chunk, first, count);
    return absl::OkStatus();
  }
  // One page that cannot be read does not take the others along.
  for (uint32_t page = first; page < first + count; ++page) {
    BLOBCACHE_RETURN_IF_ERROR(before_read(0));
    const int error = read_pages(chunk, page, 1);
    if (error == 0) {
      compare_run(chunk, page, 1);
      continue;
    }
    states_[page] = PageState::kBad;
    result_.add_reason(error == -ENODATA ? std::string(kCutShort)
                                         : fmt::format("cannot be read: {}", errno_text(-error)));
  }
  return absl::OkStatus();
}

void ObjectScrub::compare_run(const Chunk& chunk, uint32_t first, uint32_t count) {
  result_.checked_bytes += uint64_t{count} << kPageShift;
  for (uint32_t page = first; page < first + count; ++page) {
    if (matches(chunk, page)) continue;
    // What was garbled on its way comes right the second time; what the disk holds does not.
    if (read_pages(chunk, page, 1) == 0 && matches(chunk, page)) continue;
    states_[page] = PageState::kBad;
    parts_.core.counters.add(Counters::kChecksumErrors);
    drop_page(chunk.first_page + page);
    result_.add_reason(kMismatch);
  }
}

bool ObjectScrub::matches(const Chunk& chunk, uint32_t page) const {
  const uint64_t number = chunk.first_page + page;
  const uint32_t crc = crc32c({memory_of(page), kPageSize});
  return page_checksum(crc, spec_.incarnation, number) ==
         block_.checksum.at(number % kPagesPerMapBlock);
}

void ObjectScrub::note_damage(const Chunk& chunk) {
  for (uint32_t page = 0; page < chunk.pages; ++page) {
    if (states_[page] == PageState::kZero || states_[page] == PageState::kData) continue;
    const uint64_t number = chunk.first_page + page;
    hash_ = nullptr;
    ++result_.damaged_pages;
    result_.damaged.add({number << kPageShift, bytes_of(number, 1)});
    if (states_[page] == PageState::kAbsent) {
      result_.add_reason("its page map does not have all pages");
    }
  }
}

void ObjectScrub::drop_page(uint64_t page) {
  const std::shared_ptr<ObjectImpl> object = parts_.objects.find(spec_.key, spec_.incarnation);
  if (object == nullptr) return;
  const uint64_t index = page / kPagesPerExtent;
  Extent* const extent = object->extents().find(index);
  if (extent == nullptr) return;
  const PageMask bit = page_mask(static_cast<uint32_t>(page % kPagesPerExtent), 1);
  absl::MutexLock lock(&parts_.core.flights.shard({object->id(), index}).mutex);
  object->lending().forget(*extent, bit);
  extent->on_disk.fetch_and(~bit, std::memory_order_relaxed);
}

/// So that the file of an object in use can be lent.
void ObjectScrub::note_verified(const Chunk& chunk) {
  const std::shared_ptr<ObjectImpl> object = parts_.objects.find(spec_.key, spec_.incarnation);
  if (object == nullptr) return;
  for (uint32_t page = 0; page < chunk.pages;) {
    const uint64_t index = (chunk.first_page + page) / kPagesPerExtent;
    PageMask good = 0;
    for (; page < chunk.pages && (chunk.first_page + page) / kPagesPerExtent == index; ++page) {
      if (states_[page] != PageState::kData) continue;
      good |= page_mask(static_cast<uint32_t>((chunk.first_page + page) % kPagesPerExtent), 1);
    }
    Extent& extent = object->extents().get(index);
    absl::MutexLock lock(&parts_.core.flights.shard({object->id(), index}).mutex);
    object->lending().note_verified(extent, good, written_ns_);
  }
}

void ObjectScrub::check_hash() {
  if (hash_ == nullptr || hash_->finish() == spec_.key) return;
  note_whole("its content does not match its digest");
}

void ObjectScrub::note_whole(std::string_view why) {
  result_.add_reason(why);
  result_.damaged_pages = page_count(spec_.size_bytes);
  result_.damaged.add({0, spec_.size_bytes});
}

int ObjectScrub::read_pages(const Chunk& chunk, uint32_t first, uint32_t count) {
  const uint64_t page = chunk.first_page + first;
  const size_t whole = size_t{count} << kPageShift;
  const uint64_t real = bytes_of(page, count);
  const absl::Span<std::byte> into(memory_of(first), whole);
  // What the file does not have need not be asked for, page by page.
  const bool is_there = (page << kPageShift) < file_bytes_;
  const int error = is_there ? read_disk(data_.get(), into, page << kPageShift, real) : -ENODATA;
  std::memset(into.data() + real, 0, whole - real);
  return error;
}

int ObjectScrub::read_map(absl::Span<std::byte> into, uint64_t offset) {
  const int error = read_disk(map_.get(), into, offset, into.size());
  // As for a reader: to take the map for lost costs more than to ask twice.
  return is_disk_failure(error) ? read_disk(map_.get(), into, offset, into.size()) : error;
}

int ObjectScrub::read_disk(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed) {
  if (fd < 0) return -ENOENT;
  DiskTier& disk = parts_.core.disk;
  absl::Notification read;
  int outcome = 0;
  disk.counters().add(Counters::kDiskReadBytes, into.size());
  disk.ring().read(fd, into, offset, needed, [&](int result) {
    outcome = result;
    read.Notify();
  });
  read.WaitForNotification();
  // A stretch that cannot be read is what a scrub looks for; readers need not do without the disk
  // for it. Only a long one says that the disk is failing.
  failures_in_a_row_ = outcome < 0 && outcome != -ENODATA ? failures_in_a_row_ + 1 : 0;
  if (failures_in_a_row_ > kPatience) {
    disk.health().judge(DiskStep::Kind::kRead, outcome);
  } else if (failures_in_a_row_ > 0) {
    disk.counters().add(Counters::kDiskErrors);
  }
  return outcome;
}

absl::Status ObjectScrub::before_read(uint64_t bytes) {
  if (!control_.may_read(bytes)) return absl::CancelledError("the scrub was ended");
  if (parts_.core.disk.health().reads_out()) return parts_.core.disk.health().refusal();
  for (int step = 0; step < kYieldSteps && parts_.core.flights.size() > 0; ++step) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

uint64_t ObjectScrub::bytes_of(uint64_t first_page, uint64_t pages) const {
  const uint64_t offset = first_page << kPageShift;
  return std::min(pages << kPageShift, spec_.size_bytes - offset);
}

std::byte* ObjectScrub::memory_of(uint32_t page) const {
  return buffer_.get() + (uint64_t{page} << kPageShift);
}

}  // namespace blobcache::page
