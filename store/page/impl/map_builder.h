#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/page/checksum.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Makes an object's page map from its pages, given in order, handing out each block as it becomes
/// full: a map of any size in the memory of one block. One thread at a time.
class MapBuilder {
 public:
  /// Takes a finished block. An error ends the building with it.
  using Emit = std::function<absl::Status(uint64_t number, const MapBlock& block)>;

  MapBuilder(const Incarnation& incarnation, Emit emit)
      : incarnation_(incarnation), emit_(std::move(emit)) {}

  /// Enters the next page, zero-padded to its full size. `is_data`: whether it must be on disk,
  /// since it is not all zero.
  [[nodiscard]] absl::Status add(absl::Span<const std::byte> page, bool& is_data) {
    const uint64_t extent = next_page_ / kPagesPerExtent;
    if (map_block_of(extent) != number_) {
      if (absl::Status status = emit_(number_, block_); !status.ok()) return status;
      number_ = map_block_of(extent);
      block_ = MapBlock();
    }
    const uint64_t local = extent % kExtentsPerMapBlock;
    const auto bit = static_cast<uint32_t>(next_page_ % kPagesPerExtent);
    is_data = !is_zero(page);
    if (is_data) {
      block_.on_disk.at(local) |= page_mask(bit, 1);
      block_.checksum.at(local * kPagesPerExtent + bit) =
          page_checksum(crc32c(page), incarnation_, next_page_);
    } else {
      block_.zero.at(local) |= page_mask(bit, 1);
    }
    ++next_page_;
    return absl::OkStatus();
  }

  /// The block that is not full yet: of a small object, the whole map.
  [[nodiscard]] const MapBlock& last_block() const { return block_; }
  [[nodiscard]] absl::Status emit_last() { return emit_(number_, block_); }

 private:
  const Incarnation incarnation_;
  const Emit emit_;
  uint64_t next_page_ = 0;
  uint64_t number_ = 0;
  MapBlock block_;
};

}  // namespace blobcache::page
