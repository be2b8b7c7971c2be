#include "base/size.h"

#include <doctest/doctest.h>

namespace blobcache::base {
namespace {

TEST_CASE("size: binary and decimal units") {
  struct Example {
    std::string_view text;
    uint64_t bytes;
  };
  for (const Example& example : {
           Example{"0", 0},
           Example{"4096", 4096},
           Example{"17B", 17},
           Example{"64KiB", 65536},
           Example{"64K", 65536},
           Example{"64k", 65536},
           Example{"1.5GiB", 1610612736},
           Example{"2TB", 2000000000000},
           Example{"1PiB", uint64_t{1} << 50},
           Example{"1MB", 1000000},
           Example{"1 MiB", uint64_t{1} << 20},
           Example{" 8MiB ", uint64_t{8} << 20},
           Example{"0.5KiB", 512},
           Example{"18446744073709551615", UINT64_MAX},
       }) {
    INFO(example.text);
    const absl::StatusOr<uint64_t> bytes = parse_size(example.text);
    REQUIRE(bytes.ok());
    CHECK(*bytes == example.bytes);
  }
}

TEST_CASE("size: anything else is INVALID_ARGUMENT and says what was wrong with which text") {
  for (const std::string_view text :
       {"", " ", "GiB", "-1", "+1", "1..5", ".", "1.2.3", "10 apples", "1e3", "0x10", "1KiBs",
        "nan", "inf", "18446744073709551616", "16777216TiB", "99999999999PiB",
        "18446744073709551615.9PiB"}) {
    INFO(text);
    const absl::StatusOr<uint64_t> bytes = parse_size(text);
    REQUIRE_FALSE(bytes.ok());
    CHECK(absl::IsInvalidArgument(bytes.status()));
    CHECK(bytes.status().ToString().find(std::string(text)) != std::string::npos);
  }
}

TEST_CASE("size: for people") {
  CHECK(format_size(0) == "0 B");
  CHECK(format_size(17) == "17 B");
  CHECK(format_size(1023) == "1023 B");
  CHECK(format_size(4096) == "4.0 KiB");
  CHECK(format_size(uint64_t{3} << 29) == "1.5 GiB");
  CHECK(format_size(UINT64_MAX) == "16384.0 PiB");
}

TEST_CASE("size: what is shown can be read again") {
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{3} << 29, uint64_t{1} << 50}) {
    const absl::StatusOr<uint64_t> again = parse_size(format_size(bytes));
    REQUIRE(again.ok());
    CHECK(*again == bytes);
  }
}

}  // namespace
}  // namespace blobcache::base
