// Whatever a page map's file or row holds is decoded or refused; what is decoded encodes to the
// same bytes. Checksums are put right first, or nothing would come past them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "store/page/checksum.h"
#include "store/page/page_map.h"

namespace {

namespace page = blobcache::page;
using Bytes = absl::Span<const std::byte>;

const page::Incarnation kIncarnation{};

/// A copy of the input, its first four bytes the checksum of the others.
std::vector<std::byte> with_checksum(Bytes input, uint32_t seed) {
  std::vector<std::byte> bytes(input.begin(), input.end());
  if (bytes.size() < sizeof(uint32_t)) return bytes;
  const uint32_t crc = page::crc32c(absl::MakeConstSpan(bytes).subspan(sizeof(uint32_t)), seed);
  for (size_t i = 0; i < sizeof(crc); ++i) bytes[i] = static_cast<std::byte>(crc >> (8 * i));
  return bytes;
}

void check_header(Bytes input) {
  const std::vector<std::byte> bytes = with_checksum(input, 0);
  const absl::StatusOr<page::MapHeader> header = page::decode_map_header(bytes);
  if (!header.ok()) return;
  const page::MapBlockBytes again = page::encode_map_header(*header);
  const absl::StatusOr<page::MapHeader> same = page::decode_map_header(again);
  if (!same.ok() || *same != *header) std::abort();
}

void check_block(Bytes input, uint32_t seed) {
  const std::vector<std::byte> bytes = with_checksum(input, seed);
  const absl::StatusOr<page::MapBlock> block = page::decode_map_block(bytes, 0, kIncarnation);
  if (!block.ok()) return;
  const page::MapBlockBytes again = page::encode_map_block(*block, 0, kIncarnation);
  if (!std::equal(bytes.begin(), bytes.end(), again.begin(), again.end())) std::abort();
}

void check_inline(Bytes input, uint32_t seed) {
  uint64_t size_bytes = 0;
  if (input.size() < sizeof(size_bytes)) return;
  std::memcpy(&size_bytes, input.data(), sizeof(size_bytes));
  const std::vector<std::byte> bytes = with_checksum(input.subspan(sizeof(size_bytes)), seed);
  const void* data = bytes.data();
  const std::string_view text(static_cast<const char*>(data), bytes.size());
  const absl::StatusOr<page::MapBlock> block =
      page::decode_inline_map(text, size_bytes, kIncarnation);
  if (!block.ok()) return;
  if (page::encode_inline_map(*block, size_bytes, kIncarnation) != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const void* bytes = data;
  const Bytes input(static_cast<const std::byte*>(bytes), size);
  const void* incarnation = kIncarnation.bytes.data();
  const uint32_t seed =
      page::crc32c({static_cast<const std::byte*>(incarnation), kIncarnation.bytes.size()});
  check_header(input);
  check_block(input, seed);
  check_inline(input, seed);
  return 0;
}
