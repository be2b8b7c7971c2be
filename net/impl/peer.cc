#include "net/impl/peer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"

namespace blobcache::net {

absl::StatusOr<Peer> read_peer(int fd) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return base::errno_error(errno, "SO_PEERCRED");
  }
  Peer peer;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.groups.resize(32);
  for (;;) {
    size = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
    const int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size);
    const int error = errno;
    peer.groups.resize(size / sizeof(gid_t));  // how many there are, also when they did not fit
    if (result == 0) return peer;
    if (error != ERANGE) return base::errno_error(error, "SO_PEERGROUPS");
  }
}

bool is_owner(const Peer& peer, uid_t own_uid) { return peer.uid == 0 || peer.uid == own_uid; }

bool may_administer(const Peer& peer, uid_t own_uid, const std::optional<gid_t>& group) {
  if (is_owner(peer, own_uid)) return true;
  if (!group.has_value()) return false;
  return peer.gid == *group ||
         std::find(peer.groups.begin(), peer.groups.end(), *group) != peer.groups.end();
}

}  // namespace blobcache::net
