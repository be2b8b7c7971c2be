#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/page/geometry.h"
#include "store/page/pinned_range.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/page_writer.h"
#include "store/volume/impl/volume_impl.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// A write, or a zeroing, that may have to wait: for the map, the journal, the base, a cut, a
/// punch. It goes through its range an extent, or a part of a page, at a time, on a worker; while
/// the base brings a page it is on none.
class Change : public std::enable_shared_from_this<Change> {
 public:
  /// An operation of the volume that has begun.
  Change(std::shared_ptr<VolumeImpl> volume, const ChangeOrder& order, Done done);

  /// On a worker.
  void run();

 private:
  /// OK with `waits_` set: the base was asked, and run() is called again.
  [[nodiscard]] absl::Status go_on();
  /// Changes what comes next, as far as one extent goes.
  [[nodiscard]] absl::Status step();
  [[nodiscard]] Applied apply(Block& block, absl::Status& why);
  [[nodiscard]] Applied apply_part(Block& block, absl::Status& why);
  [[nodiscard]] Applied apply_pages(Block& block, absl::Status& why);
  /// Passes over blocks in which there is nothing to make zero, without bringing them to memory.
  [[nodiscard]] absl::StatusOr<bool> skip_block();
  void fetch_base();
  void take_base(absl::StatusOr<page::PinnedRange> bytes);
  void finish(absl::Status status);

  /// Bytes of the next step.
  [[nodiscard]] uint64_t next_length() const;
  [[nodiscard]] uint64_t end() const { return order_.offset + order_.length; }

  const std::shared_ptr<VolumeImpl> volume_;
  VolumeCore& core_;
  const ChangeOrder order_;
  Done done_;
  uint64_t at_;
  bool waits_ = false;
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t base_page_number_ = kNone;
  absl::Status base_status_;
  std::array<std::byte, page::kPageSize> base_page_{};
};

}  // namespace blobcache::volume
