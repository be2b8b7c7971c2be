#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace blobcache::net {

/// A real NBD server on a unix socket, run by a test. One thread.
class NbdServer {
 public:
  /// Whether `program` can be found.
  [[nodiscard]] static bool can_run(const std::string& program);

  /// Nothing runs yet. `socket` is where start() makes it listen.
  explicit NbdServer(std::filesystem::path socket) : socket_(std::move(socket)) {}
  ~NbdServer() { kill(); }
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  /// Runs nbdkit with these arguments and waits until it answers.
  void nbdkit(const std::vector<std::string>& arguments);
  /// The same over TCP, on a port of 127.0.0.1 that it chooses and returns.
  [[nodiscard]] int nbdkit_tcp(const std::vector<std::string>& arguments);
  /// The same with qemu-nbd.
  void qemu_nbd(const std::vector<std::string>& arguments);
  /// SIGKILL, and waits for the end; also of one that was stopped.
  void kill();
  /// SIGSTOP: connections stay, and nothing answers.
  void stop();

  [[nodiscard]] std::string url(const std::string& export_name = "",
                                const std::string& scheme = "nbd+unix") const {
    return scheme + ":///" + export_name + "?socket=" + socket_.string();
  }

 private:
  void run(std::vector<std::string> command, int port = 0);

  const std::filesystem::path socket_;
  pid_t pid_ = 0;
};

}  // namespace blobcache::net
