// What must not allocate memory: a program of its own, which counts.

#include <doctest/doctest.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "blockdev/impl/big_endian.h"
#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/nbd_protocol.h"
#include "blockdev/impl/nbd_transmission.h"
#include "blockdev/impl/object_device.h"
#include "test/blockdev/test_export.h"
#include "test/counted_new.h"

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 512;
constexpr size_t kDepth = 32;

/// `kDepth` reads of a page each, as they come together in one receive.
std::string reads(uint64_t first) {
  std::string bytes;
  for (uint64_t i = 0; i < kDepth; ++i) {
    bytes += be32(nbd::kRequestMagic) + be16(0) + be16(nbd::kCmdRead) + be64(first + i) +
             be64((first + i) * 37 % kPages * kPage) + be32(kPage);
  }
  return bytes;
}

/// How many replies leave.
uint64_t send_all(ReplyQueue& replies) {
  const uint64_t before = replies.sent_count();
  std::array<iovec, 64> pieces{};
  while (!replies.empty()) {
    uint64_t bytes = 0;
    const size_t count = replies.gather(absl::MakeSpan(pieces));
    for (size_t i = 0; i < count; ++i) bytes += pieces[i].iov_len;
    replies.sent(bytes);
  }
  return replies.sent_count() - before;
}

TEST_CASE("nbd reads of what is in memory allocate nothing") {
  TestStore store(kPages * kPage);
  store.warm();
  for (const nbd::HeaderStyle style : {nbd::HeaderStyle::kSimple, nbd::HeaderStyle::kStructured}) {
    ByteAllowance payloads(0);
    auto completions = CompletionQueue::create();
    REQUIRE(completions.ok());
    Transmission transmission({"disk", std::make_shared<ObjectDevice>(store.object())}, style, {},
                              {}, *std::move(completions), payloads);
    uint64_t replies = 0;
    uint64_t allocated = 0;
    for (uint64_t round = 0; round < 33; ++round) {
      const std::string requests = reads(round * kDepth);
      const uint64_t before = test::allocations_here();
      const void* const data = requests.data();
      nbd::Bytes input(static_cast<const std::byte*>(data), requests.size());
      while (!input.empty()) {
        transmission.consume(input);
        replies += send_all(transmission.replies());
      }
      // The first round makes the queues as large as they have to be.
      if (round > 0) allocated += test::allocations_here() - before;
    }
    CHECK(replies == 33 * kDepth);
    CHECK(allocated == 0);
  }
}

}  // namespace
}  // namespace blobcache::blockdev
