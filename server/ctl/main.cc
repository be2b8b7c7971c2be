#include <fcntl.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "server/ctl/command_line.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/mount_helper.h"

namespace {

/// Started with a standard descriptor closed, a program would get its number for the next file or
/// socket, and write its output into that. /dev/null takes the place; opened for reading, so that
/// writing still fails.
void fill_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDONLY | O_NOCTTY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using blobcache::ctl::ExitStatus;
  fill_standard_descriptors();
  // Writing to a pipe that nobody reads is an error to handle, not a death: a progress bar may be
  // on screen.
  std::signal(SIGPIPE, SIG_IGN);
  // gRPC's own log would put its lines between ours. Who wants them sets the variable.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  try {
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    if (argc > 0 && blobcache::ctl::is_mount_helper(argv[0])) {
      return blobcache::ctl::run_mount_helper(arguments);
    }
    const blobcache::ctl::Outcome outcome = blobcache::ctl::run(arguments);
    if (!outcome.message.empty()) blobcache::ctl::print_error(outcome.message);
    return static_cast<int>(outcome.exit);
  } catch (const std::exception& error) {
    blobcache::ctl::print_error(error.what());
    return static_cast<int>(ExitStatus::kFailed);
  }
}
