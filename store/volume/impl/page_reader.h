#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/page/geometry.h"
#include "store/volume/image.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/cut_state.h"
#include "store/volume/impl/volume_core.h"

namespace blobcache::volume {

/// Bytes of a volume and where they go.
struct ReadPart {
  uint64_t offset = 0;
  absl::Span<std::byte> into;
};

/// What the base has to bring.
using MissingParts = absl::InlinedVector<ReadPart, 4>;

/// The part of [offset, offset + length) in its first extent.
[[nodiscard]] constexpr uint64_t length_in_extent(uint64_t offset, uint64_t length) {
  const uint64_t left = page::kExtentSize - (offset & (page::kExtentSize - 1));
  return left < length ? left : length;
}

/// Which pages of an extent are what, for the volume or for a cut of it.
struct ExtentView {
  page::PageMask data = 0;
  page::PageMask copied = 0;  ///< of `data`: in the cut's side file
  page::PageMask base = 0;    ///< the rest is zero
  uint64_t base_bytes = 0;    ///< seen of the base
  const uint32_t* checksums = nullptr;
};

/// The view of an extent that is locked.
[[nodiscard]] ExtentView view_of(const VolumeCore& core, const Block& block, uint64_t extent,
                                 CutState* cut);

/// Reads what a volume, or a cut of it, has itself, and knows what the base has to bring.
///
/// An object on the stack of who needs it. Thread-safe.
class PageReader {
 public:
  /// `cut` may be absent.
  PageReader(VolumeCore& core, CutState* cut) : core_(core), cut_(cut) {}

  /// Fills `part`, inside one extent, from memory alone: the kernel's, the base's L0. False when
  /// that cannot be, or is an error.
  [[nodiscard]] bool read_now(Block& block, const ReadPart& part);

  /// What all of a range, inside one extent, is as of now. kData also stands for what is partly
  /// this and partly that.
  [[nodiscard]] Run::Kind kind_of(const Block& block, uint64_t offset, uint64_t length);

  /// Fills `part`, inside one extent, but for what is the base's, which is added to `missing`.
  /// Blocks, but not while it holds a lock that a writer wants, except when writers are in its way
  /// all the time.
  [[nodiscard]] absl::Status read(Block& block, const ReadPart& part, MissingParts& missing);

 private:
  enum class Patience : uint8_t { kNow, kWait };
  struct Outcome {
    absl::Status status;
    bool is_there = true;  ///< false: not without waiting
  };

  [[nodiscard]] Outcome read_own(Block& block, const ReadPart& part, Patience patience,
                                 MissingParts& missing);
  /// Reads own pages that are next to each other.
  [[nodiscard]] Outcome read_pages(int fd, const ExtentView& view, const ReadPart& part,
                                   Patience patience);
  [[nodiscard]] Outcome read_file(int fd, absl::Span<std::byte> into, uint64_t offset,
                                  Patience patience) const;
  [[nodiscard]] bool base_now(const ReadPart& part);

  VolumeCore& core_;
  CutState* const cut_;
};

}  // namespace blobcache::volume
