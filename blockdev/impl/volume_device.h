#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "blockdev/impl/byte_buffer.h"
#include "blockdev/impl/device.h"
#include "store/volume/image.h"

namespace blobcache::blockdev {

/// An image as a device, which can be written unless it is read_only: a volume, a snapshot of one,
/// or an origin's. Holds it in use. As Device.
class VolumeDevice final : public Device {
 public:
  VolumeDevice(std::shared_ptr<volume::Image> volume, bool read_only,
               std::shared_ptr<BufferPool> buffers)
      : volume_(std::move(volume)), read_only_(read_only), buffers_(std::move(buffers)) {}

  [[nodiscard]] uint64_t size_bytes() const override { return volume_->size_bytes(); }
  [[nodiscard]] bool read_only() const override { return read_only_; }
  [[nodiscard]] bool can_zero_fast() const override { return volume_->zeroes_fast(); }
  [[nodiscard]] uint64_t identity() const override { return volume_->identity(); }
  [[nodiscard]] std::string description() const override { return volume_->about(); }

  /// Zeros, and what L0 has of a base: an image's own pages are the kernel's, or nobody's, and
  /// nothing pins those.
  [[nodiscard]] bool try_read(uint64_t offset, uint64_t length, page::PinnedRange& range) override {
    return volume_->try_pin(offset, length, range);
  }
  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override;
  page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done) override;
  void trim(uint64_t offset, uint64_t length, bool fua, Done done) override;
  void flush(Done done) override;

 private:
  const std::shared_ptr<volume::Image> volume_;
  const bool read_only_;
  const std::shared_ptr<BufferPool> buffers_;
};

}  // namespace blobcache::blockdev
