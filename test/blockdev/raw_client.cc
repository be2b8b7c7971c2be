#include "test/blockdev/raw_client.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kOptionMagic = 0x49484156454f5054;
constexpr uint64_t kOptionReplyMagic = 0x3e889045565a9;

uint64_t number(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

std::string big_endian(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = size; i-- > 0;) bytes.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  return bytes;
}

}  // namespace

std::string be16(uint16_t value) { return big_endian(value, 2); }
std::string be32(uint32_t value) { return big_endian(value, 4); }
std::string be64(uint64_t value) { return big_endian(value, 8); }

std::string info_request(std::string_view name, const std::vector<uint16_t>& wanted) {
  std::string data = be32(static_cast<uint32_t>(name.size())) + std::string(name) +
                     be16(static_cast<uint16_t>(wanted.size()));
  for (const uint16_t type : wanted) data += be16(type);
  return data;
}

std::string meta_request(std::string_view name, const std::vector<std::string>& queries) {
  std::string data = be32(static_cast<uint32_t>(name.size())) + std::string(name) +
                     be32(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) {
    data += be32(static_cast<uint32_t>(query.size())) + query;
  }
  return data;
}

RawClient::RawClient(base::UniqueFd socket) : socket_(std::move(socket)) {
  const timeval patience{20, 0};
  REQUIRE(::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
  REQUIRE(::setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0);
}

RawClient RawClient::connect(const std::string& socket_path) {
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(socket_path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
          0);
  return RawClient(std::move(socket));
}

void RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return;  // the server has closed
    REQUIRE(n > 0);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

RawClient RawClient::connect_tcp(uint16_t port) {
  base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
          0);
  return RawClient(std::move(socket));
}

std::string RawClient::receive(size_t size) {
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t n = ::recv(fd(), bytes.data() + have, size - have, 0);
    if (n < 0 && errno == ECONNRESET) break;
    if (n < 0 && errno == EINTR) continue;  // io_uring, for a thread that has asked the store
    REQUIRE_MESSAGE(n >= 0, std::string("no answer: "), std::string(std::strerror(errno)));
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

bool RawClient::at_end() { return receive(1).empty(); }

void RawClient::shut_down_sending() { REQUIRE(::shutdown(fd(), SHUT_WR) == 0); }

void RawClient::greet(uint32_t client_flags) {
  const std::string greeting = receive(18);
  REQUIRE(greeting.size() == 18);
  CHECK(greeting.substr(0, 8) == "NBDMAGIC");
  CHECK(greeting.substr(8, 8) == "IHAVEOPT");
  CHECK(number(greeting.substr(16)) == 3);
  send(be32(client_flags));
}

void RawClient::send_option(uint32_t option, std::string_view data) {
  send(be64(kOptionMagic) + be32(option) + be32(static_cast<uint32_t>(data.size())));
  send(data);
}

RawClient::OptionReply RawClient::receive_option_reply() {
  const std::string header = receive(20);
  REQUIRE(header.size() == 20);
  REQUIRE(number(header.substr(0, 8)) == kOptionReplyMagic);
  OptionReply reply;
  reply.option = static_cast<uint32_t>(number(header.substr(8, 4)));
  reply.type = static_cast<uint32_t>(number(header.substr(12, 4)));
  reply.data = receive(number(header.substr(16, 4)));
  return reply;
}

std::vector<RawClient::OptionReply> RawClient::ask(uint32_t option, std::string_view data) {
  send_option(option, data);
  std::vector<OptionReply> replies;
  do {
    replies.push_back(receive_option_reply());
    CHECK(replies.back().option == option);
  } while (replies.back().type != 1 && replies.back().type < 0x80000000);
  return replies;
}

uint64_t RawClient::open(std::string_view name, bool structured) {
  return open(name, structured ? Style::kStructured : Style::kSimple);
}

uint64_t RawClient::open(std::string_view name, Style style,
                         const std::vector<std::string>& contexts) {
  greet();
  style_ = style;
  if (style == Style::kStructured) REQUIRE(ask(8, {}).back().type == 1);
  if (style == Style::kExtended) REQUIRE(ask(11, {}).back().type == 1);
  if (!contexts.empty()) {
    REQUIRE(ask(10, meta_request(name, contexts)).size() == contexts.size() + 1);
  }
  const auto replies = ask(7, info_request(name));
  REQUIRE(replies.back().type == 1);
  REQUIRE(replies.front().data.size() == 12);
  return number(replies.front().data.substr(2, 8));
}

std::string RawClient::request(uint16_t type, uint64_t cookie, uint64_t offset, uint64_t length,
                               uint16_t flags) const {
  const bool extended = style_ == Style::kExtended;
  return be32(extended ? 0x21e41c71 : 0x25609513) + be16(flags) + be16(type) + be64(cookie) +
         be64(offset) + (extended ? be64(length) : be32(static_cast<uint32_t>(length)));
}

std::string RawClient::write_request(uint64_t cookie, uint64_t offset, std::string_view data,
                                     uint16_t flags) const {
  const uint16_t payload = style_ == Style::kExtended ? 0x20 : 0;
  return request(1, cookie, offset, data.size(), static_cast<uint16_t>(flags | payload)) +
         std::string(data);
}

void RawClient::send_request(uint16_t type, uint64_t cookie, uint64_t offset, uint64_t length,
                             uint16_t flags) {
  send(request(type, cookie, offset, length, flags));
}

RawClient::Reply RawClient::receive_reply(size_t data_length) {
  Reply reply;
  const std::string head = receive(16);
  REQUIRE(head.size() == 16);
  const uint64_t magic = number(head.substr(0, 4));
  reply.structured = magic != 0x67446698;
  reply.cookie = number(head.substr(8, 8));
  if (!reply.structured) {
    REQUIRE(style_ == Style::kSimple);
    reply.error = static_cast<uint32_t>(number(head.substr(4, 4)));
    if (reply.error == 0) reply.data = receive(data_length);
    return reply;
  }
  const bool extended = style_ == Style::kExtended;
  REQUIRE(magic == (extended ? 0x6e8a278c : 0x668e33ef));
  reply.flags = static_cast<uint16_t>(number(head.substr(4, 2)));
  reply.type = static_cast<uint16_t>(number(head.substr(6, 2)));
  if (extended) reply.request_offset = number(receive(8));
  take_payload(reply, receive(number(receive(extended ? 8 : 4))));
  return reply;
}

void RawClient::take_payload(Reply& reply, const std::string& payload) const {
  if (reply.type == 1) {
    REQUIRE(payload.size() > 8);
    reply.offset = number(payload.substr(0, 8));
    reply.data = payload.substr(8);
  } else if (reply.type == 2) {
    REQUIRE(payload.size() == 12);
    reply.offset = number(payload.substr(0, 8));
    reply.hole = number(payload.substr(8));
  } else if (reply.type == 5 || reply.type == 6) {
    const bool wide = reply.type == 6;
    REQUIRE(wide == (style_ == Style::kExtended));
    const size_t half = wide ? 8 : 4;
    const size_t head = wide ? 8 : 4;
    reply.context = static_cast<uint32_t>(number(payload.substr(0, 4)));
    REQUIRE(payload.size() > head);
    REQUIRE((payload.size() - head) % (2 * half) == 0);
    for (size_t at = head; at < payload.size(); at += 2 * half) {
      reply.status.push_back(
          {number(payload.substr(at, half)), number(payload.substr(at + half, half))});
    }
    if (wide) CHECK(number(payload.substr(4, 4)) == reply.status.size());
  } else if ((reply.type & 0x8000) != 0) {
    REQUIRE(payload.size() >= 6);
    reply.error = static_cast<uint32_t>(number(payload.substr(0, 4)));
    const size_t text = number(payload.substr(4, 2));
    if (reply.type == 0x8002) reply.offset = number(payload.substr(6 + text, 8));
    reply.data = payload.substr(6, text);
  } else {
    REQUIRE(reply.type == 0);
    CHECK(payload.empty());
  }
}

std::string RawClient::read(uint64_t offset, uint32_t length, uint16_t flags, uint64_t* holes) {
  constexpr uint64_t kCookie = 0x7ead;
  send_request(0, kCookie, offset, length, flags);
  std::string all(length, '?');
  uint64_t covered = 0;
  bool failed = false;
  Reply reply;
  do {
    reply = receive_reply(length);
    REQUIRE(reply.cookie == kCookie);
    failed |= reply.error != 0;
    if (!reply.structured) return failed ? std::string() : reply.data;
    if (style_ == Style::kExtended) CHECK(reply.request_offset == offset);
    if (reply.error != 0 || reply.type == 0) continue;
    const uint64_t size = reply.hole + reply.data.size();
    REQUIRE(reply.offset >= offset);
    REQUIRE(reply.offset - offset + size <= length);
    if (holes != nullptr) *holes += reply.hole;
    all.replace(reply.offset - offset, size,
                reply.hole > 0 ? std::string(reply.hole, '\0') : reply.data);
    covered += size;
  } while (!reply.done());
  if (failed) return {};
  CHECK(covered == length);
  return all;
}

}  // namespace blobcache::blockdev
