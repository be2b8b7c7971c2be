#include "base/hex.h"

#include <doctest/doctest.h>

#include <array>

namespace blobcache::base {
namespace {

TEST_CASE("hex: bytes to text and back") {
  const std::array<uint8_t, 4> bytes = {0x00, 0x0f, 0xa5, 0xff};
  CHECK(to_hex(bytes) == "000fa5ff");
  CHECK(to_hex({}).empty());

  std::array<uint8_t, 4> read{};
  CHECK(from_hex("000fa5ff", absl::MakeSpan(read)));
  CHECK(read == bytes);
  read.fill(1);
  CHECK(from_hex("000FA5fF", absl::MakeSpan(read)));
  CHECK(read == bytes);
  CHECK(from_hex("", {}));
}

TEST_CASE("hex: anything else is refused") {
  std::array<uint8_t, 2> read{};
  const absl::Span<uint8_t> into = absl::MakeSpan(read);
  CHECK_FALSE(from_hex("", into));
  CHECK_FALSE(from_hex("123", into));
  CHECK_FALSE(from_hex("12345", into));
  CHECK_FALSE(from_hex("123456", into));
  for (const std::string_view text : {"123g", "12 4", "/234", ":234", "@234", "`234", "0x12"}) {
    INFO(text);
    CHECK_FALSE(from_hex(text, into));
  }
}

}  // namespace
}  // namespace blobcache::base
