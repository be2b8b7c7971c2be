#include "blockdev/impl/object_device.h"

#include <fmt/format.h>

#include <cstring>

#include "absl/status/statusor.h"
#include "base/size.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {

uint64_t ObjectDevice::identity() const {
  uint64_t start = 0;
  std::memcpy(&start, object_->key().bytes.data(), sizeof(start));
  return start;
}

std::string ObjectDevice::description() const {
  return fmt::format("{}, read-only", base::format_size(size_bytes()));
}

page::PendingRead ObjectDevice::read(uint64_t offset, uint64_t length, ReadDone done) {
  return object_->read(offset, length,
                       [done = std::move(done)](absl::StatusOr<page::PinnedRange> range) mutable {
                         if (range.ok()) {
                           done(DeviceBytes{*std::move(range), {}});
                         } else {
                           done(std::move(range).status());
                         }
                       });
}

page::PendingRead ObjectDevice::map(uint64_t offset, uint64_t length, size_t max_runs,
                                    MapDone done) {
  return object_->map(offset, length, max_runs, std::move(done));
}

}  // namespace blobcache::blockdev
