#include "store/page/checksum.h"

#include <doctest/doctest.h>

#include <string_view>
#include <vector>

namespace blobcache::page {
namespace {

absl::Span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("crc32c is Castagnoli's, as RFC 3720 has it") {
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283U);
  const std::vector<std::byte> zeros(32);
  CHECK(crc32c(zeros) == 0x8A9136AAU);
  CHECK(crc32c({}) == 0);
}

TEST_CASE("crc32c goes on where it stopped") {
  CHECK(crc32c(bytes_of("56789"), crc32c(bytes_of("1234"))) == crc32c(bytes_of("123456789")));
}

TEST_CASE("a page's checksum tells page numbers and incarnations apart") {
  Incarnation one;
  one.bytes[3] = 1;
  Incarnation two;
  two.bytes[3] = 2;
  const uint32_t crc = 0x12345678;
  CHECK(page_checksum(crc, one, 7) == page_checksum(crc, one, 7));
  CHECK(page_checksum(crc, one, 7) != page_checksum(crc, one, 8));
  CHECK(page_checksum(crc, one, 7) != page_checksum(crc, two, 7));
  CHECK(page_checksum(crc, one, 7) != page_checksum(crc + 1, one, 7));
}

TEST_CASE("is_zero sees a single byte anywhere") {
  std::vector<std::byte> page(4096);
  CHECK(is_zero(page));
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2048}, size_t{4095}}) {
    page[at] = std::byte{1};
    CHECK_FALSE(is_zero(page));
    page[at] = std::byte{0};
  }
  CHECK(is_zero({}));
}

}  // namespace blobcache::page
