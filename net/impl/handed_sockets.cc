#include "net/impl/handed_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <optional>

#include "base/unique_fd.h"

namespace blobcache::net {
namespace {

/// All sockets are files of one file system, so that the inode says which.
std::optional<ino_t> inode_of_socket(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return std::nullopt;
  return info.st_ino;
}

}  // namespace

void HandedSockets::note(int socket) {
  if (const std::optional<ino_t> inode = inode_of_socket(socket)) inodes_[socket] = *inode;
}

int HandedSockets::shut_down() const {
  int count = 0;
  for (const auto& [number, inode] : inodes_) {
    // A number of our own for it: what it means cannot change between the look and the act.
    const base::UniqueFd socket(::fcntl(number, F_DUPFD_CLOEXEC, 0));
    if (!socket.valid() || inode_of_socket(socket.get()) != inode) continue;
    if (::shutdown(socket.get(), SHUT_RDWR) == 0) ++count;
  }
  return count;
}

}  // namespace blobcache::net
