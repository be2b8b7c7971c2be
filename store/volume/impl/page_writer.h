#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/page/geometry.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/page_reader.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// What became of a change of an extent's pages. All but the first two have changed nothing.
enum class Applied : uint8_t {
  kDone,
  kFailed,    ///< of these pages any part may be changed
  kNoIntent,  ///< the journal must tell first that the block will be written to
  kNoRoom,    ///< the journal is full: a checkpoint empties it
  kCut,       ///< a cut must put the pages by first, which a worker does
  kNoBase,    ///< the page needs the base's bytes
  kWait,      ///< the page's own bytes are not in the kernel's memory: a worker reads them
  kStale,     ///< a file that was shortened must be cleaned before it becomes longer
};

/// Adjacent pages of one extent.
struct PageRun {
  uint64_t extent = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  /// Where what is written ends, in bytes; a file then ends there at least. 0: it stays as it is.
  uint64_t end = 0;

  [[nodiscard]] page::PageMask mask() const { return page::page_mask(first, count); }
  [[nodiscard]] uint64_t first_page() const { return extent * page::kPagesPerExtent + first; }
  [[nodiscard]] uint64_t offset() const { return first_page() << page::kPageShift; }
  [[nodiscard]] uint64_t bytes() const { return uint64_t{count} << page::kPageShift; }
};

/// How much of [at, at + left) is changed at once: whole pages of one extent, or a part of a page.
[[nodiscard]] constexpr uint64_t length_of_step(uint64_t at, uint64_t left) {
  const uint64_t in_page = at % page::kPageSize;
  const uint64_t to_page_end = page::kPageSize - in_page;
  if (in_page != 0 || left < page::kPageSize) return left < to_page_end ? left : to_page_end;
  return length_in_extent(at, left) / page::kPageSize * page::kPageSize;
}

/// Changes pages of a volume, an extent at a time: the file, then the journal, then the map in
/// memory, all under the extent's lock. So after a kill a page of which the journal does not tell
/// is as it was, and one of which it does has been written.
///
/// An object on the stack of who needs it. Thread-safe.
class PageWriter {
 public:
  /// On a caller's thread (`on_worker` false) nothing is done that waits for the disk.
  PageWriter(VolumeCore& core, bool on_worker) : core_(core), on_worker_(on_worker) {}

  /// Writes whole pages. `why` is set with kFailed.
  [[nodiscard]] Applied write(Block& block, const PageRun& run, const std::byte* bytes,
                              absl::Status& why);

  struct PartOfPage {
    uint64_t page = 0;
    uint32_t begin = 0;
    uint32_t length = 0;
    const std::byte* bytes = nullptr;      ///< null: zeros
    const std::byte* base_page = nullptr;  ///< the base's bytes, or null if they are not at hand
    bool grows = true;                     ///< a file ends where the part does, or later
  };
  /// Writes a part of a page; reads what is around it.
  [[nodiscard]] Applied write_part(Block& block, const PartOfPage& part, absl::Status& why);

  /// Makes pages zero, and gives their space back. On a worker.
  [[nodiscard]] Applied make_zero(Block& block, uint64_t extent, page::PageMask pages,
                                  absl::Status& why);
  /// Makes zero what the page in which a file of `length` bytes ends has beyond. On a worker.
  [[nodiscard]] Applied clear_tail(Block& block, uint64_t length, absl::Status& why);
  /// Whether make_zero would change anything.
  [[nodiscard]] bool changes_by_zeros(const Block& block, uint64_t extent,
                                      page::PageMask pages) const;

 private:
  using Checksums = std::array<uint32_t, page::kPagesPerExtent>;

  // All under the extent's lock.
  [[nodiscard]] Applied write_locked(Block& block, const PageRun& run, const std::byte* bytes,
                                     const Checksums& checksums, absl::Status& why);
  /// Fills `page` with the own page of the run's beginning.
  [[nodiscard]] Applied read_page(const Block& block, const PageRun& run,
                                  absl::Span<std::byte> page, absl::Status& why);
  /// Tells the journal what was written.
  [[nodiscard]] absl::Status tell(const Block& block, const PageRun& run, page::PageMask fresh);
  [[nodiscard]] bool settle_cut(Block& block, uint64_t extent, page::PageMask pages);
  void take_back(Block& block, const PageRun& run, page::PageMask fresh);
  /// After a write that failed: what the last page of a file has beyond its end is zero again.
  void clear_beyond(const PageRun& run, page::PageMask pages);
  /// After a write that failed: the pages are what the file has, whatever that is.
  void checksum_again(Block& block, uint64_t extent, page::PageMask pages);
  [[nodiscard]] absl::Status punch(uint64_t extent, page::PageMask pages);
  [[nodiscard]] page::PageMask to_be_zero(const Block& block, uint64_t extent,
                                          page::PageMask pages) const;

  VolumeCore& core_;
  const bool on_worker_;
};

}  // namespace blobcache::volume
