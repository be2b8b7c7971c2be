#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"

namespace blobcache::net {

/// Which pages of an image were changed since it was opened: a bitmap in chunks of 128 MiB of the
/// image, made as they are needed. When there are as many chunks as may be, further ones are
/// taken for changed as a whole, which costs a byte each, and reads the way past the cache. So a
/// page that was changed is always told so; one that was not may be.
///
/// Thread-safe.
class WrittenPages {
 public:
  static constexpr uint64_t kChunkPages = uint64_t{1} << 15;
  static constexpr size_t kMaxChunks = 8192;  ///< 32 MiB of bitmaps, for 1 TiB of scattered writes

  explicit WrittenPages(uint64_t size_bytes, size_t max_chunks = kMaxChunks);

  /// Marks every page that [offset, offset + length) touches; length may be 0.
  void mark(uint64_t offset, uint64_t length);
  /// How many bytes from `offset` on, at most `length` (not 0), are alike; `written` tells how.
  [[nodiscard]] uint64_t run(uint64_t offset, uint64_t length, bool& written) const;
  [[nodiscard]] bool none(uint64_t offset, uint64_t length) const;
  [[nodiscard]] size_t chunks() const;

 private:
  using Chunk = std::array<uint64_t, kChunkPages / 64>;

  [[nodiscard]] bool is_written(uint64_t page) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void mark_in_chunk(uint64_t chunk, uint64_t first, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_chunks_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Chunk>> chunks_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> whole_ ABSL_GUARDED_BY(mutex_);  ///< chunks that count as changed as a whole
};

}  // namespace blobcache::net
