#include "blockdev/impl/nbd_codec.h"

#include <doctest/doctest.h>

#include <string>

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
  append_export_name_reply(out, 5, 0x103, false);
  CHECK(hex(out) == "00000000000000050103");
  append_export_name_reply(out, 5, 0x103, true);
  CHECK(out.size() == 10 + 10 + 124);
}

TEST_CASE("nbd codec: reply headers, byte by byte") {
  ReplyHeader header;
  CHECK(encode_simple_reply(header, 9, 22) == kSimpleReplyBytes);
  CHECK(hex(header.data(), 16) == "67446698000000160000000000000009");
  CHECK(encode_none_chunk(header, 9) == kChunkHeaderBytes);
  CHECK(hex(header.data(), 20) == "668e33ef00010000000000000000000900000000");
  CHECK(encode_data_chunk(header, 9, 0x2000, 0x1000, false) == kDataChunkHeaderBytes);
  CHECK(hex(header.data(), 28) ==
        "668e33ef0000000100000000000000090000100800000000"
        "00002000");
  CHECK(encode_data_chunk(header, 9, 0x2000, 0x1000, true) == kDataChunkHeaderBytes);
  CHECK(hex(header.data(), 8) == "668e33ef00010001");
}

TEST_CASE("nbd codec: error chunks carry code, message and offset") {
  CHECK(hex(encode_error_chunk(9, kEInval, "hm", std::nullopt)) ==
        "668e33ef000180010000000000000009000000080000001600026"
        "86d");
  CHECK(hex(encode_error_chunk(9, kEIo, "", 0x30)) ==
        "668e33ef0001800200000000000000090000000e0000000500000000000000000030");
  CHECK(encode_error_chunk(9, kEIo, std::string(9000, 'x'), std::nullopt).size() ==
        kChunkHeaderBytes + 6 + kMaxString);
}

}  // namespace
}  // namespace blobcache::blockdev::nbd
