#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/geometry.h"
#include "store/volume/impl/block_cache.h"
#include "store/volume/impl/file_calls.h"
#include "store/volume/space_budget.h"

namespace blobcache::volume {

/// What a cut remembers of an extent that has changed since. Under the extent's lock.
struct PutBy {
  page::PageMask data = 0;
  page::PageMask zero = 0;
  page::PageMask copied = 0;  ///< pages of `data` that the side file has; the volume's has the rest
  std::array<uint32_t, page::kPagesPerExtent> checksums{};
};

/// The side of a cut that writers see: before a page changes, what it was goes into a file of the
/// cut's own, at the same offset. A file system that can share blocks (FICLONE) would do it with
/// one call, but ext4 cannot, and copying the whole file would make every writer wait.
///
/// Thread-safe. Lock order: an extent's lock, then `mutex_`.
class CutState {
 public:
  struct Parts {
    uint32_t epoch = 0;
    uint64_t size_bytes = 0;
    uint64_t base_bytes = 0;  ///< seen of the base
    base::UniqueFd side;
    const FileCalls* calls = nullptr;
    SpaceBudget* budget = nullptr;  ///< may be absent
  };

  explicit CutState(Parts parts) : parts_(std::move(parts)) {}
  ~CutState() { give_back(); }
  CutState(const CutState&) = delete;
  CutState& operator=(const CutState&) = delete;

  [[nodiscard]] uint64_t size_bytes() const { return parts_.size_bytes; }
  [[nodiscard]] uint64_t base_bytes() const { return parts_.base_bytes; }
  [[nodiscard]] int side() const { return parts_.side.get(); }

  /// Whether `pages` of the extent may be changed, as far as the cut is concerned. The extent is
  /// locked for writing.
  [[nodiscard]] bool is_settled(const Block& block, uint64_t extent, page::PageMask pages);
  /// Puts by what `pages` of the extent hold, in the file `data`. Blocks. The extent is locked for
  /// writing. What fails breaks the cut.
  void put_by(Block& block, uint64_t extent, page::PageMask pages, int data);

  /// What was put by of an extent, which is locked; null: nothing, it is as it was.
  [[nodiscard]] const PutBy* find(uint64_t extent);

  /// Nobody will read it: its space counts no more. Who has just used it may hold it for a moment.
  void give_back();

  /// OK, or why the cut cannot be read any more.
  [[nodiscard]] absl::Status status() const;

 private:
  [[nodiscard]] PutBy& entry_of(Block& block, uint64_t extent);
  [[nodiscard]] absl::Status copy(uint64_t extent, page::PageMask run, int data);

  const Parts parts_;
  std::atomic<uint64_t> charged_{0};
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<PutBy>> extents_ ABSL_GUARDED_BY(mutex_);
  absl::Status loss_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::volume
