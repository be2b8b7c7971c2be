#include "blockdev/impl/nbd_reply_codec.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/hex.h"

namespace blobcache::blockdev::nbd {
namespace {

constexpr RequestId kTo{.cookie = 9, .offset = 0x70};

std::string hex_of(const void* data, size_t size) {
  return base::to_hex({static_cast<const uint8_t*>(data), size});
}
std::string hex_of(const std::vector<std::byte>& bytes) {
  return hex_of(bytes.data(), bytes.size());
}

TEST_CASE("nbd reply codec: simple replies") {
  const ReplyCodec codec(HeaderStyle::kSimple);
  CHECK_FALSE(codec.chunks());
  ReplyHeader header;
  CHECK(ReplyCodec::encode_simple_error(header, kTo, 22) == kSimpleReplyBytes);
  CHECK(hex_of(header.data(), 16) == "67446698000000160000000000000009");
  CHECK(codec.encode_done(header, kTo) == 16);
  CHECK(hex_of(header.data(), 16) == "67446698000000000000000000000009");
  CHECK(codec.encode_data(header, kTo, 0x2000, 0x1000, true) == 16);
  CHECK(hex_of(header.data(), 16) == "67446698000000000000000000000009");
}

TEST_CASE("nbd reply codec: structured chunks") {
  const ReplyCodec codec(HeaderStyle::kStructured);
  CHECK(codec.chunks());
  ReplyHeader header;
  CHECK(codec.encode_done(header, kTo) == 20);
  CHECK(hex_of(header.data(), 20) == "668e33ef00010000000000000000000900000000");
  CHECK(codec.encode_data(header, kTo, 0x2000, 0x1000, false) == 28);
  CHECK(hex_of(header.data(), 28) ==
        "668e33ef0000000100000000000000090000100800000000"
        "00002000");
  CHECK(codec.encode_data(header, kTo, 0x2000, 0x1000, true) == 28);
  CHECK(hex_of(header.data(), 8) == "668e33ef00010001");
  CHECK(codec.encode_hole(header, kTo, 0x2000, 0x1000, true) == 32);
  CHECK(hex_of(header.data(), 32) ==
        "668e33ef0001000200000000000000090000000c0000000000002000"
        "00001000");
}

TEST_CASE("nbd reply codec: extended chunks repeat the request's offset") {
  const ReplyCodec codec(HeaderStyle::kExtended);
  CHECK(codec.chunks());
  ReplyHeader header;
  CHECK(codec.encode_done(header, kTo) == 32);
  CHECK(hex_of(header.data(), 32) ==
        "6e8a278c00010000000000000000000900000000000000700000000000000000");
  CHECK(codec.encode_data(header, kTo, 0x2000, 0x1000, true) == 40);
  CHECK(hex_of(header.data(), 40) ==
        "6e8a278c00010001000000000000000900000000000000700000000000001008"
        "0000000000002000");
  CHECK(codec.encode_hole(header, kTo, 0x2000, 0x1000, false) == 44);
  CHECK(hex_of(header.data(), 44) ==
        "6e8a278c0000000200000000000000090000000000000070000000000000000c"
        "000000000000200000001000");
  CHECK(hex_of(codec.encode_error(kTo, kEInval, "hm", 0x30)) ==
        "6e8a278c00018002000000000000000900000000000000700000000000000010"
        "000000160002686d0000000000000030");
}

TEST_CASE("nbd reply codec: error chunks carry code, message and offset") {
  const ReplyCodec codec(HeaderStyle::kStructured);
  CHECK(hex_of(codec.encode_error(kTo, kEInval, "hm", std::nullopt)) ==
        "668e33ef000180010000000000000009000000080000001600026"
        "86d");
  CHECK(hex_of(codec.encode_error(kTo, kEIo, "", 0x30)) ==
        "668e33ef0001800200000000000000090000000e0000000500000000000000000030");
  CHECK(codec.encode_error(kTo, kEIo, std::string(9000, 'x'), std::nullopt).size() ==
        kChunkHeaderBytes + 6 + kMaxString);
}

TEST_CASE("nbd reply codec: block status in 32 bits and in 64") {
  const std::vector<StatusRun> runs{{0x1000, 3}, {0x2000, 0}};
  CHECK(hex_of(ReplyCodec(HeaderStyle::kStructured).encode_status(kTo, 2, runs, false)) ==
        "668e33ef0000000500000000000000090000001400000002"
        "00001000000000030000200000000000");
  CHECK(hex_of(ReplyCodec(HeaderStyle::kExtended).encode_status(kTo, 2, runs, true)) ==
        "6e8a278c00010006000000000000000900000000000000700000000000000028"
        "0000000200000002"
        "00000000000010000000000000000003"
        "00000000000020000000000000000000");
}

}  // namespace
}  // namespace blobcache::blockdev::nbd
