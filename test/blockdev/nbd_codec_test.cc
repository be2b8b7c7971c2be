#include "blockdev/impl/nbd_codec.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/hex.h"

namespace blobcache::blockdev::nbd {
namespace {

std::string from_hex(std::string_view hex) {
  std::string bytes(hex.size() / 2, '\0');
  REQUIRE(base::from_hex(hex, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  return bytes;
}

std::string hex(const void* data, size_t size) {
  return base::to_hex({static_cast<const uint8_t*>(data), size});
}
std::string hex(const std::string& bytes) { return hex(bytes.data(), bytes.size()); }

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST_CASE("nbd codec: a request is decoded field by field") {
  const std::string wire = from_hex("25609513000400070102030405060708000000123456789a0000abcd");
  const auto request = decode_request(bytes_of(wire));
  REQUIRE(request);
  CHECK(request->flags == 4);
  CHECK(request->type == 7);
  CHECK(request->cookie == 0x0102030405060708);
  CHECK(request->offset == 0x123456789a);
  CHECK(request->length == 0xabcd);
}

TEST_CASE("nbd codec: an extended request is longer") {
  const std::string wire =
      from_hex("21e41c71002000010102030405060708000000123456789a000001000000abcd");
  const auto request = decode_extended_request(bytes_of(wire));
  REQUIRE(request);
  CHECK(request->flags == 0x20);
  CHECK(request->type == 1);
  CHECK(request->cookie == 0x0102030405060708);
  CHECK(request->offset == 0x123456789a);
  CHECK(request->length == 0x1000000abcd);
  CHECK_FALSE(decode_request(bytes_of(wire)));
  const std::string compact =
      from_hex("25609513000000000000000000000000000000000000000000000001") + "more";
  CHECK_FALSE(decode_extended_request(bytes_of(compact)));
}

TEST_CASE("nbd codec: any other magic is no request and no option") {
  std::string request = from_hex("25609513000000000000000000000000000000000000000000000001");
  std::string option = from_hex("49484156454f50540000000700000000");
  REQUIRE(decode_request(bytes_of(request)));
  REQUIRE(decode_option_header(bytes_of(option)));
  for (size_t bit = 0; bit < 32; ++bit) {
    std::string bad = request;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    CHECK_FALSE(decode_request(bytes_of(bad)));
  }
  for (size_t bit = 0; bit < 64; ++bit) {
    std::string bad = option;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    CHECK_FALSE(decode_option_header(bytes_of(bad)));
  }
}

TEST_CASE("nbd codec: an info request must add up exactly") {
  const std::string good = from_hex("00000003616263000200030001");
  const auto request = decode_info_request(bytes_of(good));
  REQUIRE(request);
  CHECK(request->name == "abc");
  CHECK(request->wanted == std::vector<uint16_t>{3, 1});
  CHECK(request->wants(kInfoBlockSize));
  CHECK_FALSE(request->wants(kInfoDescription));
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK_FALSE(decode_info_request(bytes_of(good).first(size)));
  }
  CHECK_FALSE(decode_info_request(bytes_of(good + "x")));
  CHECK_FALSE(decode_info_request(bytes_of(from_hex("ffffffff616263000000"))));
  CHECK_FALSE(decode_info_request(bytes_of(from_hex("00000000ffff"))));
  CHECK(decode_info_request(bytes_of(from_hex("000000000000"))));
}

TEST_CASE("nbd codec: a request for metadata contexts must add up exactly") {
  const std::string good = from_hex("00000002616200000002000000036261730000000568656c6c6f");
  const auto request = decode_meta_request(bytes_of(good));
  REQUIRE(request);
  CHECK(request->name == "ab");
  CHECK(request->queries == std::vector<std::string_view>{"bas", "hello"});
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK_FALSE(decode_meta_request(bytes_of(good).first(size)));
  }
  CHECK_FALSE(decode_meta_request(bytes_of(good + "x")));
  CHECK_FALSE(decode_meta_request(bytes_of(from_hex("0000000000000001"))));
  CHECK_FALSE(decode_meta_request(bytes_of(from_hex("00000000ffffffff00000000"))));
  CHECK_FALSE(decode_meta_request(bytes_of(from_hex("ffffffff0000000000000000"))));
  CHECK_FALSE(decode_meta_request(bytes_of(from_hex("0000000000000001ffffffff"))));
  const std::string none = from_hex("0000000000000000");
  REQUIRE(decode_meta_request(bytes_of(none)));
  CHECK(decode_meta_request(bytes_of(none))->queries.empty());
}

TEST_CASE("nbd codec: what the server says, byte by byte") {
  std::string out;
  append_greeting(out, 3);
  CHECK(hex(out) == "4e42444d4147494349484156454f50540003");
  out.clear();
  append_option_reply(out, 7, kRepErrUnknown, "no");
  CHECK(hex(out) == "0003e889045565a90000000780000006000000026e6f");
  out.clear();
  append_server_reply(out, 3, "ab");
  CHECK(hex(out) == "0003e889045565a9000000030000000200000006000000026162");
  out.clear();
  append_info_export(out, 7, 0x1000, 0x103);
  CHECK(hex(out) == "0003e889045565a900000007000000030000000c000000000000000010000103");
  out.clear();
  append_info_block_size(out, 6);
  CHECK(hex(out) == "0003e889045565a900000006000000030000000e0003000000010000100002000000");
  out.clear();
  append_info_text(out, 6, kInfoName, "x");
  CHECK(hex(out) == "0003e889045565a9000000060000000300000003000178");
  out.clear();
  append_meta_context(out, 10, 2, "a:b");
  CHECK(hex(out) == "0003e889045565a90000000a000000040000000700000002613a62");
  out.clear();
  append_export_name_reply(out, 5, 0x103, false);
  CHECK(hex(out) == "00000000000000050103");
  append_export_name_reply(out, 5, 0x103, true);
  CHECK(out.size() == 10 + 10 + 124);
}

}  // namespace
}  // namespace blobcache::blockdev::nbd
