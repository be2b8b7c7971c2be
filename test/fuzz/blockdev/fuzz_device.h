#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "blockdev/impl/byte_buffer.h"
#include "blockdev/impl/device.h"
#include "store/page/object.h"
#include "store/page/pending_read.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {

/// A device for fuzz targets: it does all at once, and aborts when it is asked for what it must not
/// be asked for.
class FuzzDevice final : public Device {
 public:
  static constexpr uint64_t kSize = (uint64_t{1} << 20) + 1234;

  explicit FuzzDevice(bool writable) : writable_(writable) {}

  uint64_t size_bytes() const override { return kSize; }
  bool read_only() const override { return !writable_; }
  bool can_zero_fast() const override { return writable_; }
  uint64_t identity() const override { return 1; }
  std::string description() const override { return "fuzz"; }
  bool try_read(uint64_t offset, uint64_t length, page::PinnedRange& /*range*/) override {
    check(offset, length, kMaxRead);
    return false;
  }
  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override {
    check(offset, length, kMaxRead);
    ByteBuffer zeros(length);
    std::memset(zeros.data(), 0, length);
    done(DeviceBytes{{}, std::move(zeros)});
    return {};
  }
  page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override {
    check(offset, length, kSize);
    if (max_runs == 0) std::abort();
    const uint64_t half = length / 2;
    std::vector<page::MapRun> runs{{length - half, page::Place::kDisk}};
    if (half > 0 && max_runs > 1) runs.push_back({half, page::Place::kZero});
    done(std::move(runs));
    return {};
  }
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool /*fua*/, Done done) override {
    check_change(offset, bytes.size(), kMaxWrite);
    sum_ = std::accumulate(bytes.begin(), bytes.end(), sum_, [](unsigned sum, std::byte byte) {
      return sum + std::to_integer<unsigned>(byte);
    });
    done(absl::OkStatus());
  }
  void write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done) override {
    check_change(offset, length, kSize);
    done(how.fast ? absl::UnimplementedError("slow") : absl::OkStatus());
  }
  void trim(uint64_t offset, uint64_t length, bool /*fua*/, Done done) override {
    check_change(offset, length, kSize);
    done(absl::ResourceExhaustedError("no room"));
  }

 private:
  static void check(uint64_t offset, uint64_t length, uint64_t most) {
    if (length == 0 || length > most || offset >= kSize || length > kSize - offset) std::abort();
  }
  void check_change(uint64_t offset, uint64_t length, uint64_t most) const {
    if (!writable_) std::abort();
    check(offset, length, most);
  }

  const bool writable_;
  unsigned sum_ = 0;  // reads every byte that is written
};

}  // namespace blobcache::blockdev
