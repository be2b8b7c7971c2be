#include "blockdev/impl/device.h"

namespace blobcache::blockdev {
namespace {

absl::Status read_only_error() {
  return absl::PermissionDeniedError("the device cannot be written");
}

}  // namespace

void Device::write(uint64_t /*offset*/, absl::Span<const std::byte> /*bytes*/, bool /*fua*/,
                   Done done) {
  done(read_only_error());
}

void Device::write_zeroes(uint64_t /*offset*/, uint64_t /*length*/, ZeroHow /*how*/, Done done) {
  done(read_only_error());
}

void Device::trim(uint64_t /*offset*/, uint64_t /*length*/, bool /*fua*/, Done done) {
  done(read_only_error());
}

/// Nothing was ever changed.
void Device::flush(Done done) { done(absl::OkStatus()); }

}  // namespace blobcache::blockdev
