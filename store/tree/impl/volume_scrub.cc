#include "store/tree/impl/volume_scrub.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/page_map.h"

namespace blobcache::tree {
namespace {

using page::kPageSize;

constexpr uint64_t kMapBlockBytes = page::kExtentsPerMapBlock * page::kExtentSize;
/// So much of the volume's map is asked for at once: 240 MiB, a millisecond's work.
constexpr uint64_t kStretchBytes = 64 * kMapBlockBytes;
/// So much is read at once.
constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
constexpr size_t kMostRuns = 4096;
constexpr std::string_view kBadPages = "pages do not match their checksums";
constexpr std::string_view kBadMap = "a part of its map is damaged";

absl::Status scrub_ended() { return absl::CancelledError("the scrub was ended"); }

/// What is said of each page, or block of the map, would be long, and differs in a number alone.
std::string_view reason_of(const absl::Status& why, std::string_view when_damaged) {
  return absl::IsDataLoss(why) ? when_damaged : base::message(why);
}

}  // namespace

VolumeScrub::VolumeScrub(volume::Volume& volume, page::ScrubControl& control)
    : volume_(volume), control_(control) {}

absl::StatusOr<page::ScrubResult> VolumeScrub::run() {
  const uint64_t size = volume_.size_bytes();
  buffer_.resize(std::min(size, kChunkBytes));
  for (uint64_t begin = 0; begin < size; begin += kStretchBytes) {
    BLOBCACHE_RETURN_IF_ERROR(check_stretch(begin, std::min(begin + kStretchBytes, size)));
  }
  return std::move(result_);
}

absl::Status VolumeScrub::check_stretch(uint64_t begin, uint64_t end) {
  while (begin < end) {
    if (!control_.may_read(0)) return scrub_ended();
    const absl::StatusOr<std::vector<volume::Run>> runs =
        volume_.map_own_wait(begin, end - begin, kMostRuns);
    if (!runs.ok()) {
      // One block of the map that is damaged says nothing of the others.
      const uint64_t block_end = std::min(end, (begin / kMapBlockBytes + 1) * kMapBlockBytes);
      if (block_end == end) {
        lose(begin, end, reason_of(runs.status(), kBadMap));
        return absl::OkStatus();
      }
      for (uint64_t at = begin; at < end; at = (at / kMapBlockBytes + 1) * kMapBlockBytes) {
        BLOBCACHE_RETURN_IF_ERROR(
            check_stretch(at, std::min(end, (at / kMapBlockBytes + 1) * kMapBlockBytes)));
      }
      return absl::OkStatus();
    }
    for (const volume::Run& run : *runs) {
      if (run.kind == volume::Run::Kind::kData) {
        BLOBCACHE_RETURN_IF_ERROR(check_data(begin, begin + run.length_bytes));
      }
      begin += run.length_bytes;
    }
  }
  return absl::OkStatus();
}

absl::Status VolumeScrub::check_data(uint64_t begin, uint64_t end) {
  for (; begin < end; begin += std::min(kChunkBytes, end - begin)) {
    const uint64_t chunk_end = std::min(begin + kChunkBytes, end);
    if (!control_.may_read(chunk_end - begin)) return scrub_ended();
    result_.checked_bytes += chunk_end - begin;
    result_.checked_pages += page::page_count(chunk_end - begin);
    if (!read(begin, chunk_end).ok()) BLOBCACHE_RETURN_IF_ERROR(check_pages(begin, chunk_end));
  }
  return absl::OkStatus();
}

absl::Status VolumeScrub::check_pages(uint64_t begin, uint64_t end) {
  for (uint64_t page_end = 0; begin < end; begin = page_end) {
    page_end = std::min(begin + kPageSize, end);
    if (!control_.may_read(page_end - begin)) return scrub_ended();
    if (read(begin, page_end).ok() || !is_own(begin, page_end)) continue;
    // It may have been trimmed before that, and written again since.
    const absl::Status why = read(begin, page_end);
    if (!why.ok() && is_own(begin, page_end)) {
      lose(begin, page_end, reason_of(why, kBadPages));
    }
  }
  return absl::OkStatus();
}

absl::Status VolumeScrub::read(uint64_t begin, uint64_t end) {
  return volume_.read_wait(begin, absl::MakeSpan(buffer_).first(end - begin));
}

bool VolumeScrub::is_own(uint64_t begin, uint64_t end) {
  const absl::StatusOr<std::vector<volume::Run>> runs = volume_.map_own_wait(begin, end - begin, 1);
  return !runs.ok() || runs->empty() || runs->front().kind == volume::Run::Kind::kData;
}

void VolumeScrub::lose(uint64_t begin, uint64_t end, std::string_view why) {
  result_.damaged.add({begin, end - begin});
  result_.damaged_pages += page::page_count(end - begin);
  result_.add_reason(why);
}

}  // namespace blobcache::tree
