#include "test/net/nbd_server.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace blobcache::net {

namespace {

bool answers(const std::filesystem::path& path) {
  const base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

bool answers(int port) {
  const base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

int free_port() {
  const base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

}  // namespace

bool NbdServer::can_run(const std::string& program) {
  std::istringstream folders(std::string(std::getenv("PATH")));
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

void NbdServer::nbdkit(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"nbdkit", "-f", "--exit-with-parent", "-U", socket_.string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  run(std::move(command));
}

int NbdServer::nbdkit_tcp(const std::vector<std::string>& arguments) {
  const int port = free_port();
  std::vector<std::string> command = {"nbdkit",    "-f", "--exit-with-parent", "-i",
                                      "127.0.0.1", "-p", std::to_string(port)};
  command.insert(command.end(), arguments.begin(), arguments.end());
  run(std::move(command), port);
  return port;
}

void NbdServer::qemu_nbd(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"qemu-nbd", "-t", "-e", "16", "-k", socket_.string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  run(std::move(command));
}

void NbdServer::run(std::vector<std::string> command, int port) {
  REQUIRE(pid_ == 0);
  std::error_code ignored;
  std::filesystem::remove(socket_, ignored);
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (std::string& argument : command) argv.push_back(argument.data());
  argv.push_back(nullptr);
  REQUIRE(posix_spawnp(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) == 0);
  const absl::Time limit = absl::Now() + absl::Seconds(60);
  bool up = false;
  while (!(up = port != 0 ? answers(port) : answers(socket_)) && absl::Now() < limit)
    absl::SleepFor(absl::Milliseconds(5));
  REQUIRE(up);
}

void NbdServer::kill() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, 0), nullptr, 0);
}

void NbdServer::stop() {
  ::kill(pid_, SIGSTOP);
  ::waitpid(pid_, nullptr, WUNTRACED);
}

}  // namespace blobcache::net
