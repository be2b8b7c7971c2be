#include "base/listen_address.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/status.h"

namespace blobcache::base {
namespace {

/// A directory of the test's own, removed with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "blobcache.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] std::string file(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

ListenAddress unix_address(std::string path) {
  ListenAddress address;
  address.kind = ListenAddress::Kind::kUnix;
  address.path = std::move(path);
  return address;
}

ListenAddress tcp_address(std::string host, uint16_t port) {
  ListenAddress address;
  address.kind = ListenAddress::Kind::kTcp;
  address.host = std::move(host);
  address.port = port;
  return address;
}

bool connects_to_unix(const std::string& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, path.c_str(), sizeof(name.sun_path) - 1);
  const void* any = &name;
  return ::connect(fd.get(), static_cast<const sockaddr*>(any), sizeof(name)) == 0;
}

bool connects_to_port(uint16_t port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const void* any = &name;
  return ::connect(fd.get(), static_cast<const sockaddr*>(any), sizeof(name)) == 0;
}

TEST_CASE("listen address: what is written can be read") {
  struct Example {
    std::string_view text;
    ListenAddress address;
    bool local;
  };
  for (const Example& example : {
           Example{"unix:/run/blobcache/nbd.sock", unix_address("/run/blobcache/nbd.sock"), true},
           Example{"unix:/with:colon", unix_address("/with:colon"), true},
           Example{"tcp:127.0.0.1:10809", tcp_address("127.0.0.1", 10809), true},
           Example{"tcp:127.8.9.1:0", tcp_address("127.8.9.1", 0), true},
           Example{"tcp:localhost:1", tcp_address("localhost", 1), true},
           Example{"tcp:[::1]:10809", tcp_address("::1", 10809), true},
           Example{"tcp:[::]:65535", tcp_address("::", 65535), false},
           Example{"tcp:0.0.0.0:7440", tcp_address("0.0.0.0", 7440), false},
           Example{"tcp:128.0.0.1:7440", tcp_address("128.0.0.1", 7440), false},
           Example{"tcp:[2001:db8::1]:7440", tcp_address("2001:db8::1", 7440), false},
           Example{"tcp:a-host.example.org:7440", tcp_address("a-host.example.org", 7440), false},
           Example{"tcp:localhost.example.org:1", tcp_address("localhost.example.org", 1), false},
       }) {
    INFO(example.text);
    const absl::StatusOr<ListenAddress> address = parse_listen_address(example.text);
    REQUIRE(address.ok());
    CHECK(*address == example.address);
    CHECK(address->to_string() == example.text);
    CHECK(address->is_local() == example.local);
  }
}

TEST_CASE("listen address: what cannot be meant is INVALID_ARGUMENT and names the text") {
  using namespace std::string_literals;
  for (const std::string& text : {
           ""s,
           "/run/x.sock"s,
           "127.0.0.1:10809"s,
           "udp:127.0.0.1:1"s,
           "unix:"s,
           "unix:relative.sock"s,
           "unix:/directory/"s,
           "unix:/nul\0byte"s,
           "unix:/" + std::string(107, 'x'),
           "tcp:"s,
           "tcp:host"s,
           "tcp:host:"s,
           "tcp::10809"s,
           "tcp:host:65536"s,
           "tcp:host:-1"s,
           "tcp:host:+1"s,
           "tcp:host:1x"s,
           "tcp:host: 1"s,
           "tcp:ho st:1"s,
           "tcp:::1:10809"s,
           "tcp:[::1:10809"s,
           "tcp:[::1]"s,
           "tcp:[::1]10809"s,
           "tcp:[not-v6]:1"s,
       }) {
    INFO(text);
    const absl::StatusOr<ListenAddress> address = parse_listen_address(text);
    REQUIRE_FALSE(address.ok());
    CHECK(absl::IsInvalidArgument(address.status()));
    CHECK(message(address.status()).find(text) != std::string_view::npos);
  }
  CHECK(parse_listen_address("unix:/" + std::string(106, 'x')).ok());
}

TEST_CASE("listen_on unix: answers, is 0660 whatever the umask, and is removed afterwards") {
  const TemporaryDirectory directory;
  ListenAddress address = unix_address(directory.file("a.sock"));
  const mode_t umask_before = ::umask(077);
  absl::StatusOr<UniqueFd> fd = listen_on(address);
  ::umask(umask_before);
  REQUIRE(fd.ok());
  struct stat info{};
  REQUIRE(::stat(address.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0660);
  CHECK((::fcntl(fd->get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(connects_to_unix(address.path));

  fd->reset();
  remove_socket_file(address);
  CHECK_FALSE(std::filesystem::exists(address.path));
  remove_socket_file(address);  // again: nothing happens
}

TEST_CASE("listen_on unix: one that answers is in use and goes on answering") {
  const TemporaryDirectory directory;
  ListenAddress address = unix_address(directory.file("a.sock"));
  const absl::StatusOr<UniqueFd> first = listen_on(address);
  REQUIRE(first.ok());
  const absl::StatusOr<UniqueFd> second = listen_on(address);
  REQUIRE_FALSE(second.ok());
  CHECK(absl::IsAlreadyExists(second.status()));
  CHECK(message(second.status()).find(address.path) != std::string_view::npos);
  CHECK(message(second.status()).find("in use") != std::string_view::npos);
  CHECK(connects_to_unix(address.path));
}

TEST_CASE("listen_on unix: what a dead process left is replaced") {
  const TemporaryDirectory directory;
  ListenAddress address = unix_address(directory.file("a.sock"));
  {
    const absl::StatusOr<UniqueFd> dead = listen_on(address);
    REQUIRE(dead.ok());
  }
  REQUIRE(std::filesystem::exists(address.path));
  CHECK_FALSE(connects_to_unix(address.path));
  const absl::StatusOr<UniqueFd> fd = listen_on(address);
  REQUIRE(fd.ok());
  CHECK(connects_to_unix(address.path));
}

TEST_CASE("listen_on unix: a file that is no socket is never removed") {
  const TemporaryDirectory directory;
  ListenAddress address = unix_address(directory.file("precious"));
  std::ofstream(address.path) << "content";
  const absl::StatusOr<UniqueFd> fd = listen_on(address);
  REQUIRE_FALSE(fd.ok());
  CHECK(absl::IsAlreadyExists(fd.status()));
  CHECK(std::filesystem::file_size(address.path) == 7);
}

TEST_CASE("listen_on unix: a directory that is not there is named") {
  const TemporaryDirectory directory;
  ListenAddress address = unix_address(directory.file("no/such/a.sock"));
  const absl::StatusOr<UniqueFd> fd = listen_on(address);
  REQUIRE_FALSE(fd.ok());
  CHECK(absl::IsNotFound(fd.status()));
  CHECK(message(fd.status()).find(address.path) != std::string_view::npos);
}

TEST_CASE("listen_on tcp: port 0 becomes the kernel's choice, and a port in use is refused") {
  ListenAddress address = tcp_address("127.0.0.1", 0);
  const absl::StatusOr<UniqueFd> fd = listen_on(address);
  REQUIRE(fd.ok());
  CHECK(address.port != 0);
  CHECK(connects_to_port(address.port));
  CHECK((::fcntl(fd->get(), F_GETFL) & O_NONBLOCK) != 0);

  const absl::StatusOr<UniqueFd> second = listen_on(address);
  REQUIRE_FALSE(second.ok());
  CHECK(absl::IsAlreadyExists(second.status()));
  CHECK(message(second.status()).find(address.to_string()) != std::string_view::npos);
  remove_socket_file(address);  // no file belongs to it
}

TEST_CASE("listen_on tcp: an address that is not this machine's is an error that names it") {
  ListenAddress address = tcp_address("192.0.2.77", 0);
  const absl::StatusOr<UniqueFd> fd = listen_on(address);
  REQUIRE_FALSE(fd.ok());
  CHECK(message(fd.status()).find("192.0.2.77") != std::string_view::npos);
}

}  // namespace
}  // namespace blobcache::base
