#include "blockdev/impl/byte_buffer.h"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace blobcache::blockdev {

TEST_CASE("a buffer's bytes go with it") {
  const std::array<std::byte, 3> bytes = {std::byte{1}, std::byte{2}, std::byte{3}};
  ByteBuffer first = ByteBuffer::copy_of(bytes);
  const std::byte* at = first.data();
  ByteBuffer second = std::move(first);
  CHECK(first.empty());  // NOLINT(bugprone-use-after-move): it is what a move leaves
  CHECK(second.size() == 3);
  CHECK(second.data() == at);
  CHECK(std::memcmp(second.data(), bytes.data(), 3) == 0);
  second = ByteBuffer();
  CHECK(second.empty());
  CHECK(ByteBuffer::copy_of({}).empty());
}

TEST_CASE("large buffers are used again, small ones are the allocator's") {
  const auto pool = std::make_shared<BufferPool>();
  std::optional<ByteBuffer> large = pool->take(200000);
  CHECK(large->size() == 200000);
  const std::byte* memory = large->data();
  CHECK(pool->free_bytes() == 0);
  large.reset();
  CHECK(pool->free_bytes() == 256 << 10);
  large = pool->take(256 << 10);
  CHECK(large->data() == memory);
  CHECK(pool->free_bytes() == 0);
  // Another size is another buffer.
  CHECK(pool->take(BufferPool::kSmallest).data() != memory);
  CHECK(pool->free_bytes() == BufferPool::kSmallest);
  (void)pool->take(BufferPool::kSmallest - 1);
  (void)pool->take(BufferPool::kLargest + 1);
  CHECK(pool->free_bytes() == BufferPool::kSmallest);
}

TEST_CASE("a pool keeps so much and no more") {
  const auto pool = std::make_shared<BufferPool>();
  std::vector<ByteBuffer> out;
  const size_t enough = BufferPool::kMaxFree / BufferPool::kLargest + 3;
  for (size_t i = 0; i < enough; ++i) out.push_back(pool->take(BufferPool::kLargest));
  out.clear();
  CHECK(pool->free_bytes() == BufferPool::kMaxFree);
}

TEST_CASE("a buffer may outlive who held its pool, and be freed by another thread") {
  auto pool = std::make_shared<BufferPool>();
  ByteBuffer buffer = pool->take(BufferPool::kSmallest);
  pool.reset();
  std::memset(buffer.data(), 7, buffer.size());
  std::thread([mine = std::move(buffer)] { CHECK(mine.span().back() == std::byte{7}); }).join();
}

}  // namespace blobcache::blockdev
