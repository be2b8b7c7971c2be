// A light NBD client, so that the server is the limit and not the client: random or sequential
// requests over one unix socket, many in flight, and one recv for many replies.
//
//     nbd_client_load SOCKET EXPORT read|write|seq BLOCK DEPTH SECONDS
//     nbd_client_load - - read BLOCK DEPTH SECONDS
//
// The second form has no server: a thread of its own answers at the other end of a socket pair with
// bytes that are always the same, which is what the socket alone allows. Prints requests a second.

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace blobcache::blockdev {
namespace {

using Clock = std::chrono::steady_clock;

// The protocol's numbers, under its names. A client of its own has its own.
namespace nbd {
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint16_t kFlagFixedNewstyle = 1U << 0;
constexpr uint16_t kFlagNoZeroes = 1U << 1;
constexpr uint32_t kOptExportName = 1;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr size_t kRequestBytes = 28;
constexpr size_t kSimpleReplyBytes = 16;
constexpr uint16_t kCmdRead = 0;
constexpr uint16_t kCmdWrite = 1;
}  // namespace nbd

[[noreturn]] void die(std::string_view what) {
  fmt::print(stderr, "nbd_client_load: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

template <typename Number>
void put(std::string& out, Number value) {
  for (size_t shift = sizeof(Number) * 8; shift > 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> (shift - 8)));
  }
}

uint64_t get(const char* bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void send_all(int fd, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0) die("send");
    bytes += sent;
    size -= static_cast<size_t>(sent);
  }
}

void receive_all(int fd, char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd, bytes, size, 0);
    if (got <= 0) die("recv");
    bytes += got;
    size -= static_cast<size_t>(got);
  }
}

base::UniqueFd connect_to(const std::string& path) {
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const void* const where = &address;
  if (::connect(fd.get(), static_cast<const sockaddr*>(where), sizeof(address)) != 0) {
    die("connect");
  }
  return fd;
}

/// The oldest way to choose an export, which every server has. Returns its size.
uint64_t shake_hands(int fd, const std::string& name) {
  std::array<char, 18> greeting{};
  receive_all(fd, greeting.data(), greeting.size());
  std::string out;
  put(out, uint32_t{nbd::kFlagFixedNewstyle | nbd::kFlagNoZeroes});
  put(out, nbd::kOptionMagic);
  put(out, nbd::kOptExportName);
  put(out, static_cast<uint32_t>(name.size()));
  out += name;
  send_all(fd, out.data(), out.size());
  std::array<char, 10> answer{};
  receive_all(fd, answer.data(), answer.size());
  return get(answer.data(), sizeof(uint64_t));
}

struct Load {
  uint16_t command = nbd::kCmdRead;
  bool sequential = false;
  size_t block = 4096;
  size_t depth = 32;
  double seconds = 3;
  uint64_t size = uint64_t{1} << 28;
};

/// Keeps `depth` requests in flight for a while; requests a second.
double run(int fd, const Load& load) {
  const bool writes = load.command == nbd::kCmdWrite;
  const size_t reply_bytes = nbd::kSimpleReplyBytes + (writes ? 0 : load.block);
  const std::string payload(writes ? load.block : 0, 'w');
  std::mt19937_64 random(1);
  uint64_t next = 0;
  std::string out;
  const auto ask = [&] {
    const uint64_t blocks = load.size / load.block;
    const uint64_t at = (load.sequential ? next++ : random()) % blocks;
    put(out, nbd::kRequestMagic);
    put(out, uint16_t{0});
    put(out, load.command);
    put(out, uint64_t{1});
    put(out, at * load.block);
    put(out, static_cast<uint32_t>(load.block));
    out += payload;
  };
  std::vector<char> in(load.depth * reply_bytes);
  size_t have = 0;
  uint64_t done = 0;
  for (size_t i = 0; i < load.depth; ++i) ask();
  const Clock::time_point start = Clock::now();
  const auto end = start + std::chrono::duration<double>(load.seconds);
  size_t in_flight = load.depth;
  bool asking = true;
  while (in_flight > 0) {
    if (!out.empty()) send_all(fd, out.data(), out.size());
    out.clear();
    const ssize_t got = ::recv(fd, in.data() + have, in.size() - have, 0);
    if (got <= 0) die("recv");
    have += static_cast<size_t>(got);
    asking = asking && Clock::now() < end;
    size_t used = 0;
    for (; have - used >= reply_bytes; used += reply_bytes) {
      if (get(in.data() + used, 4) != nbd::kSimpleReplyMagic || get(in.data() + used + 4, 4) != 0) {
        die("an error or no reply");
      }
      ++done;
      asking ? ask() : static_cast<void>(--in_flight);
    }
    std::memmove(in.data(), in.data() + used, have - used);
    have -= used;
  }
  return static_cast<double>(done) / std::chrono::duration<double>(Clock::now() - start).count();
}

/// Answers whatever comes, as fast as it can: one recv for many requests, one sendmsg for many
/// replies.
void answer(int fd, size_t block) {
  std::string header;
  put(header, nbd::kSimpleReplyMagic);
  put(header, uint32_t{0});
  put(header, uint64_t{1});
  std::string payload(block, 'r');
  std::vector<char> in(size_t{64} << 10);
  std::vector<iovec> out;
  size_t have = 0;
  for (;;) {
    const ssize_t got = ::recv(fd, in.data() + have, in.size() - have, 0);
    if (got <= 0) return;
    have += static_cast<size_t>(got);
    out.clear();
    for (; have >= nbd::kRequestBytes; have -= nbd::kRequestBytes) {
      out.push_back({header.data(), header.size()});
      out.push_back({payload.data(), payload.size()});
    }
    size_t left = out.size() / 2 * (header.size() + payload.size());
    for (size_t first = 0; left > 0;) {
      msghdr message = {};
      message.msg_iov = out.data() + first;
      message.msg_iovlen = out.size() - first;
      ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
      if (sent <= 0) return;
      left -= static_cast<size_t>(sent);
      while (sent > 0) {
        iovec& piece = out[first];
        const auto taken = std::min(piece.iov_len, static_cast<size_t>(sent));
        piece.iov_base = static_cast<char*>(piece.iov_base) + taken;
        piece.iov_len -= taken;
        sent -= static_cast<ssize_t>(taken);
        if (piece.iov_len == 0) ++first;
      }
    }
  }
}

double run_bare(const Load& load) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) die("socketpair");
  base::UniqueFd ours(ends[0]);
  const base::UniqueFd other(ends[1]);
  std::thread server([&] { answer(other.get(), load.block); });
  const double rate = run(ours.get(), load);
  ours = base::UniqueFd();
  server.join();
  return rate;
}

int run_main(const std::vector<std::string>& arguments) {
  if (arguments.size() != 6) {
    fmt::print(stderr,
               "usage: nbd_client_load SOCKET|- EXPORT read|write|seq BLOCK DEPTH SECONDS\n");
    return 2;
  }
  Load load;
  if (arguments[2] == "write") load.command = nbd::kCmdWrite;
  load.sequential = arguments[2] == "seq";
  load.block = std::strtoul(arguments[3].c_str(), nullptr, 10);
  load.depth = std::strtoul(arguments[4].c_str(), nullptr, 10);
  load.seconds = std::strtod(arguments[5].c_str(), nullptr);
  if (load.block == 0 || load.depth == 0) return 2;
  double rate = 0;
  if (arguments[0] == "-") {
    rate = run_bare(load);
  } else {
    const base::UniqueFd fd = connect_to(arguments[0]);
    load.size = shake_hands(fd.get(), arguments[1]);
    rate = run(fd.get(), load);
  }
  fmt::print("{:.0f}\n", rate);
  return 0;
}

}  // namespace
}  // namespace blobcache::blockdev

int main(int argc, char** argv) { return blobcache::blockdev::run_main({argv + 1, argv + argc}); }
