#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "blockdev/impl/device.h"
#include "store/page/object.h"

namespace blobcache::blockdev {

/// An object as a device: it can only be read.
class ObjectDevice final : public Device {
 public:
  explicit ObjectDevice(page::ObjectRef object) : object_(std::move(object)) {}

  [[nodiscard]] uint64_t size_bytes() const override { return object_->size_bytes(); }
  [[nodiscard]] bool read_only() const override { return true; }
  [[nodiscard]] uint64_t identity() const override;
  [[nodiscard]] std::string description() const override;

  [[nodiscard]] bool try_read(uint64_t offset, uint64_t length, page::PinnedRange& range) override {
    return object_->try_read(offset, length, range);
  }
  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override;
  page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;

 private:
  const page::ObjectRef object_;
};

}  // namespace blobcache::blockdev
