#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/impl/map_builder.h"
#include "store/page/object_writer.h"
#include "store/page/page_map.h"

namespace blobcache::page {

/// Writes an object's data and map through the ring, a megabyte at a time: while one buffer is
/// filled by the caller, others are on their way to the disk. See ObjectWriter for the contract.
class ObjectWriterImpl final : public ObjectWriter {
 public:
  /// Makes the temporary file. RESOURCE_EXHAUSTED when `size_hint` cannot fit.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ObjectWriterImpl>> create(DiskTier& disk,
                                                                                Retention retention,
                                                                                uint64_t size_hint);
  ~ObjectWriterImpl() override;
  ObjectWriterImpl(const ObjectWriterImpl&) = delete;
  ObjectWriterImpl& operator=(const ObjectWriterImpl&) = delete;

  [[nodiscard]] absl::Status append(absl::Span<const std::byte> bytes) override;
  [[nodiscard]] uint64_t size_bytes() const override { return size_bytes_; }
  [[nodiscard]] absl::StatusOr<SealedObject> seal(const ObjectKey& key,
                                                  const ObjectDescription& description) override;
  void keep() override;

  /// Makes the sealed object durable by itself.
  [[nodiscard]] absl::Status sync();

 private:
  static constexpr size_t kBufferSize = size_t{1} << 20;
  static constexpr size_t kBuffers = 4;

  struct Buffer {
    AlignedMemory memory = allocate_aligned(kBufferSize);
    size_t filled = 0;
    size_t writes = 0;  ///< under way; guarded by the writer's mutex_
    bool in_use = false;
  };

  ObjectWriterImpl(DiskTier& disk, Retention retention);

  [[nodiscard]] absl::Status open_files();
  /// A buffer that no write uses; waits for one.
  [[nodiscard]] absl::StatusOr<Buffer*> free_buffer();
  /// Checksums the filled buffer's pages and sends the ones with data on their way.
  [[nodiscard]] absl::Status flush();
  /// Enters the buffer's pages in the map; the pages with data, by word.
  [[nodiscard]] absl::StatusOr<std::vector<PageMask>> map_pages(const Buffer& buffer);
  void write_run(Buffer* buffer, size_t begin, size_t end);
  /// Sends a finished map block on its way, making the map file first if need be.
  [[nodiscard]] absl::Status write_map_block(uint64_t number, const MapBlock& block);
  [[nodiscard]] absl::Status wait_for_writes();
  [[nodiscard]] absl::Status reserve(uint64_t bytes);
  /// A write of `bytes` was answered.
  void written(Buffer* buffer, uint64_t bytes, int result);
  /// One thing less under way.
  void write_done(Buffer* buffer, int result);
  [[nodiscard]] absl::Status write_map_header(const ObjectKey& key);
  /// Into the attribute if that can take it, else into a names file.
  [[nodiscard]] absl::Status describe(const ObjectKey& key, const ObjectDescription& description);

  DiskTier& disk_;
  const Retention retention_;
  const Incarnation incarnation_ = Incarnation::random();
  base::UniqueFd data_;
  base::UniqueFd map_file_;
  base::UniqueFd names_file_;
  uint64_t size_bytes_ = 0;
  uint64_t reserved_bytes_ = 0;
  std::atomic<uint64_t> settled_bytes_{0};  ///< of them; see DiskBudget::settled
  uint64_t buffer_offset_ = 0;              ///< where the current buffer goes
  Buffer* current_ = nullptr;
  MapBuilder map_;
  ObjectKey key_;
  bool sealed_ = false;
  bool kept_ = false;

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Buffer>> buffers_ ABSL_GUARDED_BY(mutex_);
  size_t writes_under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status write_error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
