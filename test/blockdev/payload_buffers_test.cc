#include "blockdev/impl/payload_buffers.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace blobcache::blockdev {
namespace {

using Buffer = PayloadBuffers::Buffer;

TEST_CASE("payload buffers: they are large enough, on a page's border, and come again") {
  ByteAllowance shared(uint64_t{1} << 30);
  PayloadBuffers buffers(shared);
  for (const size_t size :
       {size_t{1}, size_t{4096}, size_t{4097}, size_t{100'000}, PayloadBuffers::kLargest}) {
    auto buffer = buffers.take(size);
    REQUIRE(buffer);
    CHECK(buffer->size >= size);
    CHECK(buffer->size < 2 * size + PayloadBuffers::kSmallest);
    CHECK(reinterpret_cast<uintptr_t>(buffer->bytes.get()) % 4096 == 0);
    const std::byte* place = buffer->bytes.get();
    buffers.give_back(*std::move(buffer));
    const uint64_t held = buffers.held();
    auto again = buffers.take(size);
    REQUIRE(again);
    CHECK(again->bytes.get() == place);
    CHECK(buffers.held() == held);
    buffers.give_back(*std::move(again));
  }
}

TEST_CASE("payload buffers: a connection holds so much and no more") {
  ByteAllowance shared(uint64_t{1} << 30);
  PayloadBuffers buffers(shared);
  std::vector<Buffer> out;
  while (auto buffer = buffers.take(PayloadBuffers::kLargest)) out.push_back(*std::move(buffer));
  CHECK(out.size() == PayloadBuffers::kMaxHeld / PayloadBuffers::kLargest);
  CHECK_FALSE(buffers.take(1));
  // Another size gets the room of what came back.
  buffers.give_back(std::move(out.back()));
  out.pop_back();
  CHECK(buffers.take(1));
  CHECK(buffers.held() < PayloadBuffers::kMaxHeld);
}

TEST_CASE("payload buffers: where others have taken all there is one left for each") {
  ByteAllowance shared(PayloadBuffers::kLargest);
  PayloadBuffers greedy(shared);
  std::vector<Buffer> out;
  while (auto buffer = greedy.take(PayloadBuffers::kLargest)) out.push_back(*std::move(buffer));
  CHECK(out.size() == 2);
  CHECK(shared.left() == 0);
  PayloadBuffers other(shared);
  auto one = other.take(PayloadBuffers::kLargest);
  REQUIRE(one);
  CHECK_FALSE(other.take(1));
  other.give_back(*std::move(one));
  CHECK(other.take(1));
  CHECK_FALSE(other.has_spare());

  for (Buffer& buffer : out) greedy.give_back(std::move(buffer));
  CHECK(greedy.has_spare());
  greedy.release_free();
  CHECK_FALSE(greedy.has_spare());
  CHECK(greedy.held() == 0);
  CHECK(shared.left() == PayloadBuffers::kLargest);
}

TEST_CASE("payload buffers: what a connection took of the others goes with it") {
  ByteAllowance shared(PayloadBuffers::kMaxHeld);
  {
    PayloadBuffers buffers(shared);
    for (int i = 0; i < 3; ++i) CHECK(buffers.take(PayloadBuffers::kLargest));
    CHECK(shared.left() < PayloadBuffers::kMaxHeld);
  }
  CHECK(shared.left() == PayloadBuffers::kMaxHeld);
}

}  // namespace
}  // namespace blobcache::blockdev
