#include "store/volume/impl/own_page.h"

#include <fmt/format.h>

#include <vector>

#include "base/status.h"
#include "store/page/checksum.h"

namespace blobcache::volume {

using page::kPageSize;

uint32_t own_checksum(const page::Incarnation& incarnation, uint64_t page, const std::byte* bytes) {
  return page::page_checksum(page::crc32c({bytes, kPageSize}), incarnation, page);
}

absl::Status check_own_page(const page::Incarnation& incarnation, uint64_t page,
                            absl::Span<const std::byte> bytes, uint32_t checksum) {
  if (own_checksum(incarnation, page, bytes.data()) == checksum) return absl::OkStatus();
  return base::at_offset(
      absl::DataLossError(fmt::format("page {} of the volume is not what was written to it", page)),
      page * kPageSize);
}

absl::Status recheck_pages(VolumeCore& core, uint64_t extent, page::PageMask pages,
                           page::MapBlock& states) {
  absl::Status status;
  std::vector<std::byte> bytes;
  page::for_each_run(pages, [&](page::PageMask run) {
    const uint32_t first = page::first_page(run);
    const uint32_t count = page::page_total(run);
    const uint64_t first_number = extent * page::kPagesPerExtent + first;
    bytes.resize(count * kPageSize);
    const absl::Status read =
        core.calls.read(core.files.data.get(), absl::MakeSpan(bytes), first_number * kPageSize);
    status.Update(read);
    if (!read.ok()) return;
    const uint64_t place = extent % page::kExtentsPerMapBlock * page::kPagesPerExtent + first;
    for (uint32_t i = 0; i < count; ++i) {
      states.checksum.at(place + i) =
          own_checksum(core.incarnation, first_number + i, bytes.data() + i * kPageSize);
    }
  });
  return status;
}

}  // namespace blobcache::volume
