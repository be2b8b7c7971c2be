#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

#include "absl/status/statusor.h"

namespace blobcache::net {

/// Who is at the other end of a unix connection, as the kernel knows it from when it was made.
/// Value type.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< the supplementary ones
};

/// SO_PEERCRED and SO_PEERGROUPS of a connected unix socket.
[[nodiscard]] absl::StatusOr<Peer> read_peer(int fd);

/// Whether `peer` may administer a daemon of user `own_uid`: root, that user, and members of
/// `group`.
[[nodiscard]] bool may_administer(const Peer& peer, uid_t own_uid,
                                  const std::optional<gid_t>& group);

/// Whether `peer` could as well start a daemon of user `own_uid`, or become it: root, and that
/// user.
[[nodiscard]] bool is_owner(const Peer& peer, uid_t own_uid);

}  // namespace blobcache::net
