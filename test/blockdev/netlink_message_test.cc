#include "blockdev/impl/netlink_message.h"

#include <doctest/doctest.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace blobcache::blockdev::netlink {
namespace {

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename T>
std::string raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string padded(std::string text) {
  text.resize((text.size() + 3) / 4 * 4);
  return text;
}

std::string message(uint16_t type, uint16_t flags, uint32_t sequence, const std::string& payload) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(sizeof(header) + payload.size());
  header.nlmsg_type = type;
  header.nlmsg_flags = flags;
  header.nlmsg_seq = sequence;
  return padded(raw(header) + payload);
}

TEST_CASE("netlink: attributes are found again, by type, whatever stands around them") {
  Attributes inner;
  inner.add_u32(1, 77);
  Attributes attributes;
  attributes.add_text(4, "abc");
  attributes.add_u32(1, 0x12345678);
  attributes.add_nested(7, inner);
  attributes.add_u64(2, uint64_t{1} << 40);
  const Bytes all = bytes_of(attributes.bytes());
  CHECK(all.size() % 4 == 0);
  CHECK(find_u32(all, 1) == 0x12345678);
  REQUIRE(find(all, 4));
  CHECK(text_of(*find(all, 4)) == std::string("abc\0", 4));
  REQUIRE(find(all, 7));
  CHECK(find_u32(*find(all, 7), 1) == 77);
  REQUIRE(find(all, 2));
  CHECK(text_of(*find(all, 2)) == raw(uint64_t{1} << 40));
  CHECK_FALSE(find(all, 3));
  CHECK_FALSE(find({}, 3));
}

TEST_CASE("netlink: a number of an attribute that is too short is none") {
  Attributes attributes;
  attributes.add_text(1, "");
  attributes.add_text(2, "a");
  CHECK_FALSE(find_u16(bytes_of(attributes.bytes()), 1));
  CHECK(find_u16(bytes_of(attributes.bytes()), 2) == uint16_t{'a'});
  CHECK_FALSE(find_u32(bytes_of(attributes.bytes()), 2));
}

TEST_CASE("netlink: lengths that lie end the search") {
  Attributes attributes;
  attributes.add_u32(1, 5);
  attributes.add_u32(2, 6);
  for (const uint16_t length : {uint16_t{0}, uint16_t{3}, uint16_t{17}, uint16_t{0xffff}}) {
    std::string bytes = attributes.bytes();
    std::memcpy(bytes.data(), &length, sizeof(length));
    CHECK_FALSE(find(bytes_of(bytes), 2));
  }
  for (size_t size = 0; size < attributes.bytes().size(); ++size) {
    CHECK_FALSE(find(bytes_of(attributes.bytes()).first(size), 2));
  }
}

TEST_CASE("netlink: a request has its header, the family's and the attributes") {
  Attributes attributes;
  attributes.add_u32(3, 9);
  const std::string bytes = request(31, 1, 5, 42, attributes);
  nlmsghdr header{};
  genlmsghdr generic{};
  REQUIRE(bytes.size() == sizeof(header) + sizeof(generic) + attributes.bytes().size());
  std::memcpy(&header, bytes.data(), sizeof(header));
  std::memcpy(&generic, bytes.data() + sizeof(header), sizeof(generic));
  CHECK(header.nlmsg_len == bytes.size());
  CHECK(header.nlmsg_type == 31);
  CHECK(header.nlmsg_flags == (NLM_F_REQUEST | NLM_F_ACK));
  CHECK(header.nlmsg_seq == 42);
  CHECK(generic.cmd == 5);
  CHECK(generic.version == 1);
  CHECK(bytes.ends_with(attributes.bytes()));
}

TEST_CASE("netlink: an answer and its acknowledgment in one datagram") {
  Attributes attributes;
  attributes.add_u32(1, 3);
  nlmsgerr acknowledgment{};
  const std::string datagram = message(NLMSG_NOOP, 0, 8, "") +
                               message(31, 0, 8, raw(genlmsghdr{}) + attributes.bytes()) +
                               message(NLMSG_ERROR, NLM_F_CAPPED, 8, raw(acknowledgment));
  const std::vector<Message> parts = parse(bytes_of(datagram));
  REQUIRE(parts.size() == 2);
  CHECK_FALSE(parts[0].error);
  CHECK(parts[0].sequence == 8);
  CHECK(find_u32(parts[0].attributes, 1) == 3);
  CHECK(parts[1].error == 0);
}

TEST_CASE("netlink: a refusal, with the kernel's words or without") {
  Attributes words;
  words.add_text(NLMSGERR_ATTR_MSG, "no such thing");
  nlmsgerr refusal{};
  refusal.error = -EBUSY;
  refusal.msg.nlmsg_len = sizeof(nlmsghdr) + 8;
  const std::string plain = message(NLMSG_ERROR, NLM_F_CAPPED, 1, raw(refusal));
  const std::string capped =
      message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 1, raw(refusal) + words.bytes());
  const std::string echoed =
      message(NLMSG_ERROR, NLM_F_ACK_TLVS, 1, raw(refusal) + std::string(8, 'e') + words.bytes());
  REQUIRE(parse(bytes_of(plain)).size() == 1);
  CHECK(parse(bytes_of(plain))[0].error == EBUSY);
  CHECK(parse(bytes_of(plain))[0].explanation.empty());
  for (const std::string& datagram : {capped, echoed}) {
    const std::vector<Message> parts = parse(bytes_of(datagram));
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].error == EBUSY);
    CHECK(parts[0].explanation == "no such thing");
  }
}

TEST_CASE("netlink: what is cut short is no message, and harms nothing") {
  nlmsgerr refusal{};
  refusal.error = -EINVAL;
  refusal.msg.nlmsg_len = 0xffffffff;
  const std::string datagram =
      message(NLMSG_ERROR, NLM_F_ACK_TLVS, 1, raw(refusal) + std::string(8, 'x'));
  for (size_t size = 0; size < datagram.size(); ++size) {
    CHECK(parse(bytes_of(datagram).first(size)).empty());
  }
  CHECK(parse(bytes_of(datagram)).size() == 1);
  const std::string bare = message(NLMSG_ERROR, 0, 1, "ab");
  REQUIRE(parse(bytes_of(bare)).size() == 1);
  CHECK(parse(bytes_of(bare))[0].error == EPROTO);
}

}  // namespace
}  // namespace blobcache::blockdev::netlink
