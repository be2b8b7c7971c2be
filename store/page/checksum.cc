#include "store/page/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace blobcache::page {

uint32_t crc32c(absl::Span<const std::byte> bytes, uint32_t crc) {
  // ISA-L takes an int for the length and a non-const pointer that it does not write through.
  constexpr size_t kMost = size_t{1} << 30;
  uint32_t state = ~crc;
  while (!bytes.empty()) {
    const absl::Span<const std::byte> part = bytes.first(std::min(bytes.size(), kMost));
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data()));  // NOLINT
    state = crc32_iscsi(data, static_cast<int>(part.size()), state);
    bytes.remove_prefix(part.size());
  }
  return ~state;
}

uint32_t page_checksum(uint32_t page_crc32c, const Incarnation& incarnation, uint64_t page_number) {
  std::array<std::byte, 24> tail{};
  std::memcpy(tail.data(), incarnation.bytes.data(), incarnation.bytes.size());
  for (size_t i = 0; i < 8; ++i) {
    tail[16 + i] = static_cast<std::byte>(page_number >> (8 * i));
  }
  return crc32c(tail, page_crc32c);
}

bool is_zero(absl::Span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  // The first byte is zero and every byte equals the one before it.
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace blobcache::page
