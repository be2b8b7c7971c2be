#include "server/notify.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/unique_fd.h"
#include "server/logging.h"

namespace blobcache::server {
namespace {

/// A service manager's end: a bound datagram socket. `name` is as in $NOTIFY_SOCKET.
base::UniqueFd bind_manager(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name.front() == '@') address.sun_path[0] = '\0';
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* generic = static_cast<const sockaddr*>(static_cast<const void*>(&address));
  REQUIRE(::bind(fd.get(), generic,
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
  return fd;
}

std::string receive(const base::UniqueFd& fd) {
  std::array<char, 256> buffer;
  const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
  return got < 0 ? "" : std::string(buffer.data(), static_cast<size_t>(got));
}

TEST_CASE("messages arrive at sockets with a path and at abstract ones") {
  std::string directory = (std::filesystem::temp_directory_path() / "notify.XXXXXX").native();
  REQUIRE(::mkdtemp(directory.data()) != nullptr);
  const std::string path = directory + "/notify";
  const base::UniqueFd by_path = bind_manager(path);
  CHECK(notify(path, "READY=1").ok());
  CHECK(receive(by_path) == "READY=1");
  std::filesystem::remove_all(directory);

  const std::string abstract = fmt::format("@blobcache-notify-test-{}", ::getpid());
  const base::UniqueFd by_name = bind_manager(abstract);
  CHECK(notify(abstract, "STOPPING=1").ok());
  CHECK(receive(by_name) == "STOPPING=1");
}

TEST_CASE("nobody to tell is fine; a bad address is an error") {
  CHECK(notify("", "READY=1").ok());
  CHECK(absl::IsInvalidArgument(notify("relative", "READY=1")));
  CHECK(absl::IsInvalidArgument(notify("/" + std::string(200, 'x'), "READY=1")));
  CHECK(absl::IsNotFound(notify("/nonexistent/notify", "READY=1")));
}

TEST_CASE("the journal is known by the file that stderr is") {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe2(pipe.data(), O_CLOEXEC) == 0);
  const base::UniqueFd reader(pipe[0]);
  const base::UniqueFd writer(pipe[1]);
  struct stat info{};
  REQUIRE(::fstat(writer.get(), &info) == 0);
  CHECK(is_journal(fmt::format("{}:{}", info.st_dev, info.st_ino), writer.get()));
  CHECK_FALSE(is_journal(fmt::format("{}:{}", info.st_dev, info.st_ino + 1), writer.get()));
  CHECK_FALSE(is_journal("", writer.get()));
  CHECK_FALSE(is_journal("1:1", -1));
}

}  // namespace
}  // namespace blobcache::server
