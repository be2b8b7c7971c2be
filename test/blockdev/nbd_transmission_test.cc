// The transmission phase without a socket: what it asks of its input, and of the thread.

#include "blockdev/impl/nbd_transmission.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "store/page/allow_blocking.h"
#include "test/blockdev/memory_device.h"
#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kDeviceBytes = 8 * kMiB;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr size_t kHeader = 28;

std::string request_bytes(uint16_t type, uint64_t offset, uint32_t length) {
  return be32(kRequestMagic) + be16(0) + be16(type) + be64(1) + be64(offset) + be32(length);
}

/// Remembers for each read whether the thread might wait for it.
class NotingDevice final : public MemoryDevice {
 public:
  NotingDevice() : MemoryDevice(kDeviceBytes) {}

  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override {
    might_block.push_back(page::AllowBlocking::allowed());
    return MemoryDevice::read(offset, length, std::move(done));
  }

  std::vector<bool> might_block;
};

class Fixture {
 public:
  /// Gives all bytes to the transmission and takes its replies; how many bytes it left.
  size_t give(const std::string& bytes, bool client_waits = false) {
    const void* const data = bytes.data();
    nbd::Bytes input(static_cast<const std::byte*>(data), bytes.size());
    transmission_.consume(input, client_waits);
    transmission_.collect();
    return input.size();
  }
  void take_replies() {
    ReplyQueue& replies = transmission_.replies();
    std::vector<iovec> pieces(64);
    while (!replies.empty()) {
      size_t bytes = 0;
      const size_t count = replies.gather(absl::MakeSpan(pieces));
      for (size_t i = 0; i < count; ++i) bytes += pieces[i].iov_len;
      replies.sent(bytes);
    }
  }
  Transmission& transmission() { return transmission_; }
  NotingDevice& device() { return *device_; }

 private:
  ByteAllowance payloads_{uint64_t{64} << 20};
  std::shared_ptr<NotingDevice> device_ = std::make_shared<NotingDevice>();
  Transmission transmission_{
      {"disk", device_}, nbd::HeaderStyle::kSimple, {}, {}, *CompletionQueue::create(), payloads_};
};

}  // namespace

TEST_CASE("nbd transmission: the disk is waited for when requests come one by one for a while") {
  Fixture fixture;
  const auto one = [&](bool client_waits) {
    CHECK(fixture.give(request_bytes(kRawRead, 0, 4096), client_waits) == 0);
    fixture.take_replies();
    return fixture.device().might_block.back();
  };
  for (int i = 0; i < 10; ++i) CHECK_FALSE(one(false));
  CHECK(one(true));
  // Two at once: the second must not wait for the first.
  CHECK(fixture.give(request_bytes(kRawRead, 0, 4096) + request_bytes(kRawRead, 4096, 4096),
                     true) == 0);
  fixture.take_replies();
  std::vector<bool>& noted = fixture.device().might_block;
  CHECK_FALSE(noted.at(noted.size() - 2));
  CHECK_FALSE(noted.back());
  int before = 0;
  while (!one(true)) ++before;
  CHECK(before >= 2);
  // One that comes while another's reply has not left is not alone.
  fixture.give(request_bytes(kRawRead, 0, 4096), true);
  fixture.give(request_bytes(kRawRead, 0, 4096), true);
  CHECK_FALSE(noted.back());
  CHECK_FALSE(page::AllowBlocking::allowed());
}

TEST_CASE("nbd transmission: behind a long payload only the next header is worth having") {
  Fixture fixture;
  Transmission& transmission = fixture.transmission();
  CHECK(transmission.input_room(0) > kMiB);
  CHECK_FALSE(transmission.after_long_payload());
  const uint32_t length = 256 << 10;
  CHECK(fixture.give(request_bytes(1, 0, length)) == 0);
  CHECK(transmission.after_long_payload());
  CHECK(transmission.payload_target().size() == length);
  CHECK(fixture.give(std::string(length, 'x')) == 0);
  CHECK(transmission.payload_target().empty());
  CHECK(transmission.input_room(0) == kHeader);
  CHECK(transmission.input_room(kHeader - 1) == 1);
  // So much may be there already.
  CHECK(transmission.input_room(kHeader) > kMiB);
  CHECK(fixture.give(request_bytes(1, 0, 512)) == 0);
  CHECK(transmission.input_room(0) > kMiB);
  CHECK(fixture.give(std::string(512, 'x')) == 0);
  CHECK(transmission.input_room(0) > kMiB);
  CHECK_FALSE(transmission.after_long_payload());
}

}  // namespace blobcache::blockdev
